"""What the server tells about itself: the access log, the error log, and an identifier for every request."""

from .accesslog import PEER, TRACE, AccessLog, find_trace
from .errorlog import log_as_json
from .identifiers import GIVEN, REQUEST_ID, RequestIds
from .records import ASKED, PASSED_ON, Asked, Describe, Peer, Record, Remembered, tell
from .sinks import FileSink, JournalSink, StreamSink
from .writing import LOG, LogWriter

__all__ = [
    "ASKED",
    "GIVEN",
    "LOG",
    "PASSED_ON",
    "PEER",
    "REQUEST_ID",
    "TRACE",
    "AccessLog",
    "Asked",
    "Describe",
    "FileSink",
    "JournalSink",
    "LogWriter",
    "Peer",
    "Record",
    "Remembered",
    "RequestIds",
    "StreamSink",
    "find_trace",
    "log_as_json",
    "tell",
]
