"""Small images whose truth is known: grey, with a bright square on every second one."""

import torch

from captum_vae.data import Sample, SampleDataset


class Spots(SampleDataset):
    """Grey images with a bright square on every second one; masks at twice the size."""

    def __init__(self, count: int, *, defects: bool, size: int = 16) -> None:
        self.count, self.defects, self.size = count, defects, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index >= self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index + 1000 * self.defects)
        image = 0.3 + 0.2 * torch.rand(1, self.size, self.size, generator=generator)
        mask = torch.zeros(2 * self.size, 2 * self.size, dtype=torch.bool)
        label = int(self.defects and index % 2 == 0)
        if label:
            row, column = torch.randint(0, self.size - 5, (2,), generator=generator).tolist()
            image[:, row : row + 4, column : column + 4] += 0.15
            mask[2 * row : 2 * row + 8, 2 * column : 2 * column + 8] = True
        return Sample(image, mask, label, f"{index}.png", f"clip{index // 3}")


class Rows:
    """A third party's scorer: no class of ours, the row number as score."""

    def fit(self, normal):
        self.images = sum(len(batch) for batch in normal)
        return self

    def score(self, images):
        height, width = images.shape[2:]
        return torch.arange(float(height))[None, :, None].expand(len(images), height, width)
