"""An HTTP server with OpenAI's interface in front of one device or several: `tritape serve`, docs/server.md."""

from tritape.host.server.app import make_app
from tritape.host.server.device import Backend, ServedDevice
from tritape.host.server.served import Served

__all__ = ["Backend", "Served", "ServedDevice", "make_app"]
