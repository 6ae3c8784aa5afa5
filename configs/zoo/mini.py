# The model that is shipped as delvm_mm://mini, scored on images that it has not seen:
#     python tools/test.py configs/zoo/mini.py delvm_mm://mini
_base_ = 'teacher.py'
