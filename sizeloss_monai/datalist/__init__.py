"""Data lists: layouts, splits, how a case may be annotated, classes."""

from sizeloss_monai.datalist.classes import ClassMap, label_ids_of, unannotated_id_of
from sizeloss_monai.datalist.entries import Annotation, annotated_items, mark_supervision
from sizeloss_monai.datalist.layouts import unused_files
from sizeloss_monai.datalist.lists import load_datalist, make_datalist, open_datalist, save_datalist

__all__ = [
    "Annotation",
    "ClassMap",
    "annotated_items",
    "label_ids_of",
    "load_datalist",
    "make_datalist",
    "mark_supervision",
    "open_datalist",
    "save_datalist",
    "unannotated_id_of",
    "unused_files",
]
