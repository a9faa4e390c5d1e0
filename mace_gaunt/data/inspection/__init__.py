"""What is in files of structures: for `mace-gaunt data inspect`, before anything is trained on them."""

from mace_gaunt.data.inspection.file_report import FileReport
from mace_gaunt.data.inspection.inspect import inspect_files
from mace_gaunt.data.inspection.report import Report

__all__ = ["FileReport", "Report", "inspect_files"]
