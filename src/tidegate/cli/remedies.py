"""Says how to fix what made a call to a backend fail: which key to set, or what to do about the server.

The one place with these texts, for ``doctor`` and ``call``. It connects nowhere; what only a look at the server can
tell, such as the names in its certificate, is in `certificates`.
"""

import errno
import re
import socket
import ssl

import msgspec

from tidegate.cli.asking import Reply
from tidegate.config import BackendConfig
from tidegate.core.masking import mask_url
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.shaping import Shape
from tidegate.errors import ApplicationError, ErrorCode, HttpStatus

_DEFAULTS = msgspec.structs.asdict(BackendConfig(url=""))


class Subject(msgspec.Struct, frozen=True):
    """What was asked: the backend's name and keys, the method or path, the shape, where these are set, the timeout."""

    name: str
    backend: BackendConfig
    method: str
    shape: Shape
    setting: str
    timeout_s: float

    def key(self, name: str) -> str:
        """Return the place of a key of the source, for people."""
        return f"{name} of {self.setting}"

    @property
    def backend_key(self) -> str:
        return f"backends.{self.name}"

    @property
    def url(self) -> str:
        return mask_url(self.backend.address)


def subject_of(backend: BackendConfig, name: str, source: SourcePlan) -> Subject:
    """Return what `source` asks of the backend `name`."""
    setting = f'[sources."{source.spec.type}"]'
    return Subject(name, backend, source.call.method, source.shape, setting, source.spec.timeout_s)


def remedy(subject: Subject, reply: Reply) -> str:
    """Return what to do about the fault of `reply`."""
    fault, error = reply.fault, reply.error
    assert fault is not None, "only a fault has a remedy"
    if subject.backend.is_plugin and fault.verdict is not Verdict.IGNORED and reply.answer is None:
        return _of_plugin(subject, fault)
    if isinstance(error, HttpStatus):
        return _of_status(subject, error)
    if isinstance(error, ApplicationError):
        return _of_application(subject, error)
    if fault.verdict is Verdict.IGNORED:
        return f"write the file that {subject.backend_key} names, readable by the gateway's user"
    match fault.code:
        case ErrorCode.RPC_DISCONNECT if ": the proxy " in fault.message:
            return f"start the proxy, or correct {subject.backend_key}.proxy; or ask it to let the gateway through"
        case ErrorCode.RPC_DISCONNECT:
            return _of_connection(subject, None if error is None else _root(error))
        case ErrorCode.RPC_TIMEOUT:
            return _of_timeout(subject, fault)
        case ErrorCode.RPC_AUTH:
            return _credentials(subject)
        case ErrorCode.RPC_INVALID_RESPONSE if reply.answer is not None:
            return _of_shape(subject, fault.message)
    return _of_answer(subject, fault.message)


def _of_plugin(subject: Subject, fault: Fault) -> str:
    keys = subject.backend_key
    match fault.code:
        case ErrorCode.RPC_DISCONNECT:
            return f"start it, or correct {keys}.options, which say where it is"
        case ErrorCode.RPC_TIMEOUT:
            return f"see why it takes so long, or raise {keys}.timeout_s"
        case ErrorCode.RPC_AUTH:
            return f"correct {keys}.options, or the secret that they name"
        case ErrorCode.RPC_APPLICATION_ERROR:
            return f"correct {subject.key('method')} or params"
    return (
        f'see whether {keys}.options lead to the right service; if so, tell the author of "{subject.backend.protocol}"'
    )


def certificate_error(reply: Reply) -> ssl.SSLCertVerificationError | None:
    """Return the error of the certificate that ended the call, if it was one."""
    root = None if reply.error is None else _root(reply.error)
    return root if isinstance(root, ssl.SSLCertVerificationError) else None


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _of_connection(subject: Subject, root: BaseException | None) -> str:
    url = f"{subject.backend_key}.{_place_key(subject.backend)}"
    match root:
        case ssl.SSLCertVerificationError():
            return _of_certificate(subject, root.verify_code)
        case ssl.SSLError() if root.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}:
            return f"it speaks no TLS on this port: write http:// in {url}, or another port"
        case ssl.SSLError() if "CERTIFICATE_REQUIRED" in str(root.reason):
            return f"it wants a client certificate: {subject.backend_key}.client_cert_file and client_key_file"
        case ssl.SSLError():
            return f"ask the server which versions of TLS it takes, or correct {url}"
        case socket.gaierror():
            host = subject.url.partition("://")[2].rpartition("@")[2].partition("/")[0]
            return f"correct the host in {url}: this machine's DNS and /etc/hosts know no such name as in {host!r}"
        case FileNotFoundError():
            return f"start {subject.name}: it makes the socket; or correct the path of the socket"
        case PermissionError():
            return "give the gateway's user the right to use it (often: put the user into the group of the file)"
        case ConnectionRefusedError():
            return f"start {subject.name}, or correct host and port in {url}: nothing listens there"
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return f"see whether the machine is on and in reach of this one, or correct the host in {url}"
    if "Connection refused" in str(root):  # all addresses of a name
        return f"start {subject.name}, or correct host and port in {url}: nothing listens there"
    return f"look into the log of {subject.name}, or correct {url}: what listens there may be something else"


def _place_key(backend: BackendConfig) -> str:
    """Return the key that says where the backend is. Those of others have their own, among their options."""
    if backend.socket is not None:
        return "socket"
    return "url" if backend.url else "options"


def _of_certificate(subject: Subject, code: int) -> str:
    keys, host = subject.backend_key, subject.url.partition("://")[2].rpartition("@")[2].partition("/")[0]
    match code:
        case 10:
            return "renew the certificate on the server; if it is new, the clock of this machine is wrong"
        case 9:
            return "set the clock of this machine or of the server: the certificate is valid from a later time on"
        case 62 | 64:
            return f"set {keys}.tls_name to a name that is in the certificate, or write that name in {keys}.url"
        case 18:
            address = host if host.rpartition(":")[2].isdigit() else f"{host}:443"
            command = f"openssl s_client -connect {address} </dev/null | openssl x509 -out {subject.name}.pem"
            return (
                f'nobody vouches for it. `{command}` saves it: compare it, then {keys}.ca_file = "{subject.name}.pem"'
            )
    return f"name the certificate of the authority that signed it as {keys}.ca_file (a file in PEM)"


def _of_timeout(subject: Subject, fault: Fault) -> str:
    if fault.unreachable:
        return f"see whether the machine is on and whether a firewall drops it, or correct {subject.backend_key}.url"
    own = subject.backend.timeout_s != subject.timeout_s
    key = subject.key("timeout_s") if own else f"{subject.backend_key}.timeout_s"
    return f"find out why it takes so long, or raise {key}"


def _of_status(subject: Subject, error: HttpStatus) -> str:
    keys = subject.backend_key
    match error.status:
        case 401 | 407 if error.status == 407 or ": the proxy " in str(error):
            return f"the proxy wants a login: http://USER:PASSWORD@HOST:PORT in {keys}.proxy"
        case 401 | 403:
            return _credentials(subject)
        case 404 | 410:
            return (
                f"nothing is there: {_place_asked(subject)}. Correct {subject.key('path')}, or the path in {keys}.url"
            )
        case 409:
            return (
                f"it may want the header of a session (Transmission does): [{keys}.session] with on_status = [409]"
                " and `header`; `tidegate config init --for transmission` shows how"
            )
        case 405 | 501:
            return f"it does not take this verb at {_place_asked(subject)}: correct {subject.key('path')}, or its verb"
        case 406 | 415:
            return f"it wants other headers: see `Accept` and `Content-Type` in {keys}.headers"
        case 408 | 425 | 429 | 503:
            return "it is too busy, or asked too often: try again, and raise interval_s of its sources"
        case status if 300 <= status < 400:
            return _of_redirect(subject, error.location)
        case status if status < 500:
            return f"it does not understand the request: correct {keys}.url (http or https?), or what is asked"
    return f"look into the log of {subject.name}: it failed by itself"


def _of_redirect(subject: Subject, location: str | None) -> str:
    keys, base = subject.backend_key, subject.url.partition("?")[0].rstrip("/")
    if location is None:
        return f"correct {keys}.url: it is not served here"
    if any(word in location.lower() for word in ("login", "signin", "sign-in", "auth")):
        return f"it sends you to its login, {location}: {_credentials(subject)}"
    suffix = "/" + subject.method.partition("?")[0].lstrip("/") if subject.backend.protocol == "http" else ""
    target = location.partition("?")[0]
    if target.endswith(suffix) and target.removesuffix(suffix).rstrip("/") != base:
        return f'it has moved: {keys}.url = "{target.removesuffix(suffix)}"'
    return f"it has moved to {location}: write that in {keys}.url and {subject.key('path')}"


def _credentials(subject: Subject) -> str:
    """Say which key to correct, or which ones there are, if none is set."""
    backend, keys = subject.backend, subject.backend_key
    set_keys = {name for name, value in msgspec.structs.asdict(backend).items() if value != _DEFAULTS.get(name)}
    present = [f"{keys}.{key}" for key in ("bearer_token_file", "headers", "secrets", "session") if key in set_keys]
    present += (
        [f"user and password in {keys}.url"] if "@" in backend.address.partition("://")[2].partition("/")[0] else []
    )
    if present:
        return f"it wants another login than it gets: correct {' or '.join(present)}"
    return (
        f"it wants a login: {keys}.bearer_token_file for a token, USER:PASSWORD@ before the host in {keys}.url,"
        f" {keys}.headers for an API key; the secret itself belongs in a file that [{keys}.secrets] names"
    )


def _of_application(subject: Subject, error: ApplicationError) -> str:
    match error.rpc_code:
        case -32601:
            return _unknown_method(subject)
        case -32602:
            return f"correct {subject.key('params')}"
        case -32600 | -32700:
            return f"it does not understand the request: correct {subject.backend_key}.url and protocol"
    if any(word in str(error).lower() for word in ("no such method", "method not found", "unknown method")):
        return _unknown_method(subject)
    if any(word in str(error).lower() for word in ("unauthor", "denied", "login", "authent", "forbidden", "token")):
        return f"{_credentials(subject)}; or correct {subject.key('params')}"
    return f"correct {subject.key('method')} or params"


def _unknown_method(subject: Subject) -> str:
    return f"it has no method {mask_url(subject.method)!r}: correct {subject.key('method')}"


def _of_shape(subject: Subject, message: str) -> str:
    if "bytes of data" in message:
        return f"take only what you need: {subject.key('select')}, or fields; or raise limits.event_bytes"
    if " again in " in message:
        return f"add to {subject.key('key')} what tells these items apart: a list of names"
    return f"correct {subject.key('select, items, key or fields')}"


def _of_answer(subject: Subject, message: str) -> str:
    lowered, keys = message.lower(), subject.backend_key
    if any(start in lowered for start in ("b'<", "b'\\n<", "b'\\r\\n<", "<html", "<!doctype")):
        return f"that is a web page and no answer of an API: correct the path in {keys}.url or {subject.key('path')}"
    if "b'# help" in lowered or "b'# type" in lowered:
        return f'those are metrics of Prometheus: {subject.key("format")} = "prometheus"'
    if re.search(r"expected json, got b['\"][a-z#]", lowered) and subject.backend.protocol == "http":
        return f'that is text and no JSON: {subject.key("format")} = "text" with a `pattern`, or "csv"; or another path'
    if "that the pattern matches" in lowered:
        return f"correct {subject.key('pattern')}: the message shows how the text begins"
    if "expected metrics" in lowered or "expected csv" in lowered:
        return f"correct {subject.key('format')}, or the path: the answer is written in another way"
    if "expected an http response" in lowered:
        return f"it speaks no HTTP on this port: correct the port in {keys}.url, or https instead of http"
    if "uncompressed" in lowered:
        return "turn off compression on the server, or in the proxy before it, for this path"
    if "response_bytes" in lowered or "expected an answer of at most" in lowered:
        return f"ask for less, or raise {keys}.response_bytes"
    return f"correct {keys}.protocol, or the path in {keys}.url: this is no answer of the configured kind"


def _place_asked(subject: Subject) -> str:
    if subject.backend.protocol != "http":
        return subject.url
    base, question, query = subject.url.partition("?")
    path = mask_url(subject.method).lstrip("/")
    return f"{base.rstrip('/')}/{path}{question}{query}"
