"""Where the ring's audio is played: a speaker, a file or nowhere, all behind one small protocol.

An output takes frames from the ring at the pace of real time and counts what was missing. While the
producer says that it is ``expecting`` sound, an empty ring is an underrun; otherwise it is silence
that is meant. An output that is lost says so in its status and leaves what is unread in the ring:
the producer opens another one on the same ring, which continues with the next frame.
"""

from __future__ import annotations

from pkontext.output_status import Output, OutputStatus
from pkontext.paced import FileOutput, NullOutput
from pkontext.speaker import SpeakerOutput

__all__ = ["FileOutput", "NullOutput", "Output", "OutputStatus", "SpeakerOutput"]
