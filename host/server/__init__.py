"""An HTTP server with OpenAI's interface in front of one device: `tritape serve`, docs/server.md."""

from tritape.host.server.app import make_app
from tritape.host.server.device import ServedDevice
from tritape.host.server.served import Served

__all__ = ["Served", "ServedDevice", "make_app"]
