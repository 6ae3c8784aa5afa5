from delvm_mm.apis.answers import Answer, AnswerWriter
from delvm_mm.apis.generating import ImageGenerator
from delvm_mm.apis.images import ModelImage, read_prompt_folder
from delvm_mm.apis.inferencer import DeLVMInferencer
from delvm_mm.apis.model_card import ModelCard
from delvm_mm.apis.model_folder import load_model, save_model
from delvm_mm.apis.options import AnswerOptions

__all__ = [
    "Answer",
    "AnswerOptions",
    "AnswerWriter",
    "DeLVMInferencer",
    "ImageGenerator",
    "ModelCard",
    "ModelImage",
    "load_model",
    "read_prompt_folder",
    "save_model",
]
