"""Frames of video files by number, decoded one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vae.files import reading

VIDEO_SUFFIXES = frozenset(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .flv .ts .3gp".split())


class VideoFile:
    """The frames of a video.

    Frames are decoded in order: asking for them by rising number decodes the file once, and going
    back starts it anew. A copy for another process opens the file for itself.

    Args:
        path: The video.

    Attributes:
        frames: How many frames it has, counted without decoding them.

    Raises:
        ImportError: PyAV is not installed.
        FileNotFoundError: There is no such file.
        DamagedFileError: It holds no video.
    """

    def __init__(self, path: Path) -> None:
        """Count the frames."""
        self.path = path
        av = _av()
        with self._errors(), av.open(str(path)) as container:
            stream = container.streams.video[0]
            self.frames = sum(packet.pts is not None for packet in container.demux(stream))
            self.size = (stream.codec_context.height, stream.codec_context.width)
        self._decoder: Iterator[Any] | None = None
        self._next = 0
        self._process = os.getpid()
        self._of_parent: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open file."""
        return self.__dict__ | {"_decoder": None, "_next": 0, "_of_parent": None}

    def read(self, number: int) -> NDArray[np.uint8]:
        """Frame ``number`` as (H, W, 3) bytes.

        Raises:
            DamagedFileError: The frame does not decode.
        """
        if self._process != os.getpid():
            # After a fork the decoder's threads are the parent's. It is kept, since closing it
            # would wait for them.
            self._of_parent, self._decoder, self._process = self._decoder, None, os.getpid()
        with self._errors():
            if self._decoder is None or number < self._next:
                self._decoder, self._next = self._decode(), 0
            while True:
                frame = next(self._decoder, None)
                if frame is None:
                    self._decoder = None
                    raise ValueError(f"it ends before frame {number} of {self.frames}")
                self._next += 1
                if self._next > number:
                    return frame.to_ndarray(format="rgb24")  # type: ignore[no-any-return]

    def _decode(self) -> Iterator[Any]:
        with _av().open(str(self.path)) as container:
            yield from container.decode(video=0)

    def _errors(self) -> Any:
        return reading(self.path, "a video that PyAV decodes", remedy="convert or copy it again")


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'captum-vae[video]'") from error
    return av
