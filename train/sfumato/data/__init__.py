"""Images and labels: every data set looks the same to the rest of the product.

Usage: `from sfumato.data import Split, open_dataset`
"""

from sfumato.data.dataset import Attribute, Dataset, Split
from sfumato.data.from_python import save_folder
from sfumato.data.registry import open_dataset

__all__ = ["Attribute", "Dataset", "Split", "open_dataset", "save_folder"]
