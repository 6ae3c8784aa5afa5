"""A trained tokenizer as a folder that every other config can name."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.unwrap import model_to_keep
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class SaveTokenizerHook(Hook):
    """After training a :class:`VQGANTrainer`, write ``config.json`` and ``pytorch_model.bin`` in the published layout.

    With MMEngine's ``EMAHook`` the averaged weights are written.

    Args:
        out_dir: The folder; name it as ``dict(type='VQGAN', pretrained=out_dir)``.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir
        self._kept: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Note the fingerprint that has to stay where only the decoder is trained."""
        model = model_to_keep(runner)
        if getattr(model, "train_part", "all") == "decoder":
            model.vqgan.keep_fingerprint()
            self._kept = model.vqgan.fingerprint

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the folder.

        Raises:
            ValueError: If the decoder alone was to be trained, and the tokens are others now.
            FloatingPointError: If a weight is not finite.
        """
        vqgan = model_to_keep(runner).vqgan
        spoilt = [name for name, value in vqgan.state_dict().items() if not value.isfinite().all()]
        if spoilt:
            raise FloatingPointError(
                f"{len(spoilt)} weights of the tokenizer are not finite, {spoilt[0]} among them: the training has "
                f"diverged. Nothing was written to {self.out_dir}. Lower the learning rate or clip_grad, or look at "
                "the data"
            )
        if self._kept not in (None, vqgan.fingerprint):
            raise ValueError(
                f"the decoder alone was trained, but tokenizer {self._kept} is {vqgan.fingerprint} now: its encoder or "
                f"codebook has changed. Nothing was written to {self.out_dir}"
            )
        vqgan.save_pretrained(self.out_dir)
        runner.logger.info(f"tokenizer {vqgan.fingerprint} saved in {self.out_dir}")
