"""A Hugging Face model that holds the loss: loaded from its encoder alone, saved, loaded again."""

import dao.learner  # noqa: F401  (settles torchvision before transformers is imported)

# isort: split
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from dao import DAOLoss


class Config(PreTrainedConfig):
    model_type = "two-tasks"


class Encoder(PreTrainedModel):
    config_class = Config
    base_model_prefix = "encoder"

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(4, 8)
        self.post_init()


class Model(PreTrainedModel):
    config_class = Config
    base_model_prefix = "encoder"

    def __init__(self, config):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 1)])
        self.balance = DAOLoss(
            ["cls", "reg"], params=self.encoder.parameters, priors={"cls": 2.0}, refresh_every=1
        )
        self.post_init()

    def forward(self, x):
        z = self.encoder.layer(x)
        losses = [head(z).square().mean() for head in self.heads]
        return self.balance(dict(zip(["cls", "reg"], losses, strict=True)))


def test_the_state_is_fresh_without_a_saved_one_and_goes_on_with_one(tmp_path):
    Encoder(Config()).save_pretrained(tmp_path / "encoder")
    used = [torch.randn(64, dtype=torch.float64) for _ in range(50)]  # memory that is not zero
    del used
    model = Model.from_pretrained(tmp_path / "encoder").train()
    x = torch.randn(3, 4)
    model(x).backward()
    fresh = Model(Config())
    fresh.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "balance" not in k}, False
    )
    fresh(x)
    assert model.balance.telemetry() == fresh.balance.telemetry()
    assert model.balance.state.prior.tolist() == [2.0, 1.0]
    model.save_pretrained(tmp_path / "whole")
    for dtype in (torch.float32, torch.bfloat16):
        again = Model.from_pretrained(tmp_path / "whole", dtype=dtype).train()
        state = again.balance.state
        for name, buffer in model.balance.state.named_buffers():
            torch.testing.assert_close(
                state.get_buffer(name), buffer, rtol=0, atol=0, equal_nan=True
            )
            assert state.get_buffer(name).dtype == buffer.dtype
        again(x.to(dtype)).backward()
        assert state.count.tolist() == [2, 2]
