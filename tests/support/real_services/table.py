"""The table: how each service is started, what it says itself, and what changes in it."""

from real_services.deluge import DELUGE
from real_services.downloads import ARIA2, QBITTORRENT, TRANSMISSION
from real_services.machines import DOCKER, GLANCES, NODE_EXPORTER, OVSDB
from real_services.proxies import CADDY, HAPROXY, NGINX
from real_services.servers import ETCD, NATS, PROMETHEUS, SYNCTHING

SERVICES = (
    ARIA2,
    TRANSMISSION,
    QBITTORRENT,
    DELUGE,
    PROMETHEUS,
    NODE_EXPORTER,
    NGINX,
    HAPROXY,
    CADDY,
    NATS,
    SYNCTHING,
    OVSDB,
    ETCD,
    GLANCES,
    DOCKER,
)
