"""What clients come in through: the listening socket, WebSocket, event streams and the HTTP API."""

from tidegate.extras import require

require("gateway")
