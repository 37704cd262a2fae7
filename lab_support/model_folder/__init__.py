"""A Hugging Face model folder, read and checked without torch: its JSON files and the headers of its safetensors files.

Used by the launcher (to refuse a broken folder before it starts any process), by API servers (context length,
sampling defaults, end tokens, path of the tokenizer) and by engine cores (file and offset of each tensor). It reads
JSON and a few file sizes in a few milliseconds, and no weights.
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
