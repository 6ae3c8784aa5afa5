from .answers import Answer, AnswerWriter
from .generating import PictureGenerator
from .inferencer import DeLVMInferencer
from .options import AnswerOptions
from .pictures import ModelPicture, read_prompt_folder

__all__ = [
    "Answer",
    "AnswerOptions",
    "AnswerWriter",
    "DeLVMInferencer",
    "ModelPicture",
    "PictureGenerator",
    "read_prompt_folder",
]
