import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from sizeloss_monai.report import Outline, Panel, draw_panel, largest_slice, overlay_figure, square_window


def disc(shape=(24, 20), centre=(8, 12), radius=4):
    i, j = np.ogrid[: shape[0], : shape[1]]
    return (i - centre[0]) ** 2 + (j - centre[1]) ** 2 <= radius**2


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def panel_axes(figure):
    return [axes for axes in figure.axes if axes.images]


class TestLargestSlice:
    def test_largest(self):
        mask = np.zeros((4, 4, 5))
        mask[0, 0, 1] = mask[:2, 0, 3] = 1
        assert largest_slice(mask) == 3

    def test_empty(self):
        assert largest_slice(np.zeros((4, 4, 5))) == 2


class TestOverlayFigure:
    def test_saves_a_png(self, tmp_path):
        image, mask = np.random.default_rng(0).random((24, 20)), disc()
        panel = Panel(image, [Outline(mask, "red", "prediction"), Outline(mask, "lime", "seed", fill=0.7)])
        figure = overlay_figure([[panel, panel], [panel, Panel(image)]], ["a", "b"], ["first", "second"], "title")
        figure.savefig(tmp_path / "overlay.png")
        assert (tmp_path / "overlay.png").stat().st_size > 1000
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["prediction", "seed"]
        assert [axes.get_ylabel() for axes in panel_axes(figure)] == ["first", "", "second", ""]

    def test_names_are_no_formulas(self):
        mask = disc()
        drawn = pixels(overlay_figure([[Panel(np.zeros((24, 20)), [Outline(mask, "red", r"$\bad$")])]]))
        assert drawn.size

    def test_first_axis_runs_to_the_right_and_spacing_counts(self):
        figure = overlay_figure([[Panel(np.eye(3, 5), [Outline(disc((3, 5), (2, 0), 1), "red")], (2.0, 1.5))]])
        axes = panel_axes(figure)[0]
        assert axes.get_xlim() == (-1.0, 5.0)
        assert axes.get_ylim() == (6.75, -0.75)
        vertices = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
        assert vertices[:, 0].max() == pytest.approx(5.0)  # the outer edge of index 2 of the first axis
        assert vertices[:, 1].min() == pytest.approx(-0.75)

    def test_colours_appear(self):
        image = np.zeros((24, 20))
        drawn = pixels(overlay_figure([[Panel(image, [Outline(disc(), "red")])]]))
        assert ((drawn[..., 0] > 200) & (drawn[..., 1] < 50)).any()
        drawn = pixels(overlay_figure([[Panel(image, [Outline(np.zeros_like(image), "red", "nothing")])]]))
        assert not ((drawn[:-60, :, 0] > 200) & (drawn[:-60, :, 1] < 50)).any()

    def test_a_mask_of_the_whole_image_has_a_contour(self):
        figure = overlay_figure([[Panel(np.eye(6), [Outline(np.ones((6, 6)), "red")])]])
        assert len(panel_axes(figure)[0].collections[0].get_paths()[0].vertices) > 4

    def test_none_leaves_a_gap(self):
        figure = overlay_figure([[Panel(np.eye(6)), None]])
        assert [axes.axison for axes in figure.axes] == [True, False]

    def test_panels_fill_their_place(self):
        wide, narrow = (overlay_figure([[Panel(np.eye(8, 4), spacing=s)]]) for s in ((2.0, 1.0), (1.0, 2.0)))
        assert wide.get_figheight() < narrow.get_figheight()

    def test_panels_of_different_shapes_have_equal_gaps(self):
        shapes = [(24, 20), (20, 24), (30, 10), (10, 10)]
        rows = [
            [Panel(np.random.default_rng(i).random(shape), spacing=(1, 1 + i / 4))] * 3
            for i, shape in enumerate(shapes)
        ]
        figure = overlay_figure(rows, ["a\nlong title", "b", "c"], ["1", "2", "3", "4"])
        pixels(figure)
        size = figure.get_size_inches()
        boxes = np.array([axes.get_position().get_points() * size for axes in panel_axes(figure)]).reshape(4, 3, 2, 2)
        across = boxes[:, 1:, 0, 0] - boxes[:, :-1, 1, 0]
        down = boxes[:-1, :, 0, 1] - boxes[1:, :, 1, 1]
        assert across == pytest.approx(across[0, 0], abs=1e-3)
        assert down == pytest.approx(across[0, 0], abs=1e-3)
        for axes, panel in zip(panel_axes(figure), [panel for row in rows for panel in row], strict=True):
            width, height = (n * s for n, s in zip(panel.image.shape, panel.spacing, strict=True))
            assert axes.get_xlim()[1] - axes.get_xlim()[0] >= width - 1e-6, "nothing is cut"
            assert axes.get_ylim()[0] - axes.get_ylim()[1] >= height - 1e-6

    def test_a_figure_without_legend(self):
        assert overlay_figure([[Panel(np.eye(6), [Outline(np.eye(6), "red", "a")])]], legend=False).legends == []

    def test_constant_and_tiny_images(self):
        pixels(overlay_figure([[Panel(np.ones((1, 1)), [Outline(np.ones((1, 1)), "red")])]]))

    @pytest.mark.parametrize(
        ("rows", "titles", "match"),
        [
            ([], {}, "rows must"),
            ([[]], {}, "rows must"),
            ([[Panel(np.ones((2, 2)))] * 2, [Panel(np.ones((2, 2)))]], {}, "rows must"),
            ([[Panel(np.ones((2, 2)))]], {"column_titles": ["a", "b"]}, "column_titles"),
            ([[Panel(np.ones((2, 2)))]], {"row_titles": ["a", "b"]}, "row_titles"),
            ([[Panel(np.ones((2, 2)), [Outline(np.ones((2, 3)), "red")])]], {}, "mask must have the image's shape"),
        ],
    )
    def test_bad_arguments(self, rows, titles, match):
        with pytest.raises(ValueError, match=match):
            overlay_figure(rows, **titles)


def test_square_window():
    mask = np.zeros((40, 30, 3), dtype=bool)
    mask[10:14, 5:9, 1] = True
    # the second axis has the wider side, 8 mm; half of it and the margin of 6 mm around the centres 12 and 14 mm
    assert square_window(mask, (1.0, 2.0), margin=6.0) == (slice(2, 22), slice(2, 12))
    assert square_window(mask[..., 1], (1.0, 2.0), margin=99.0) == (slice(0, 40), slice(0, 30))


def test_image_of_another_rank():
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match=r"image must have shape \[H, W\]"):
        draw_panel(Figure().subplots(), Panel(np.ones((2, 2, 2))))


def test_draw_panel_writes_the_note():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_panel(axes, Panel(np.eye(4), note="DSC 0.91"))
    assert [text.get_text() for text in axes.texts] == ["DSC 0.91"]


def test_no_global_state_of_matplotlib():
    code = "import sys, sizeloss_monai; assert 'matplotlib' not in sys.modules; "
    code += "import sizeloss_monai.report; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
