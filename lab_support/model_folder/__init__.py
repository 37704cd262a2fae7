"""A Hugging Face model folder, read and checked without torch: its JSON files and the headers of its safetensors files.

Used by the launcher (so that a broken folder is refused before any process is started), by API servers (context
length, sampling defaults, end tokens, where the tokenizer is) and by engine cores (which tensor lies where in which
file). It reads no weight: JSON and a few file sizes, in a few milliseconds.
"""

from lab_support.model_folder.folder import ModelFolder
from lab_support.model_folder.generation_config import SamplingDefaults
from lab_support.model_folder.json_object import ModelFolderError
from lab_support.model_folder.rope import Rope, parse_rope
from lab_support.model_folder.shape import ModelShape, parse_shape
from lab_support.model_folder.weights import StoredTensor

__all__ = [
    "ModelFolder",
    "ModelFolderError",
    "ModelShape",
    "Rope",
    "SamplingDefaults",
    "StoredTensor",
    "parse_rope",
    "parse_shape",
]
