"""A segmentation network of a few thousand weights, which the real exporters convert in seconds."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyNet(nn.Module):
    """Convolution, batch norm, dropout and bilinear upsampling: the operators that exporters get wrong."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 5, stride=4, padding=2), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, batch_NCHW: Tensor) -> Tensor:
        features = self.body(self.stem(batch_NCHW))
        logits: Tensor = functional.interpolate(
            self.head(features), size=batch_NCHW.shape[2:], mode="bilinear", align_corners=False
        )
        return logits


def build(num_classes: int = 4) -> TinyNet:
    """Build the network with reproducible weights, and with batch statistics other than the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TinyNet(num_classes)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.uniform_(net.head.weight, -2, 2)  # several classes win some pixels
    return net
