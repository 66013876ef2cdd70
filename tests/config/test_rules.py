"""Every rule on one value, between keys and between tables: what is refused, in which words, and what is allowed."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.config import from_document

Problems = Callable[..., dict[str, str]]

BACKEND = '[backends.b]\nurl = "http://h"\n'
SOURCE = BACKEND + '[sources.s]\nbackend = "b"\nmethod = "m"\n'
HTTP = SOURCE.replace("[sources", 'protocol = "http"\n[sources')
JWT = '[auth]\nmode = "jwt"\n[auth.jwt]\njwks_url = "https://h/keys"\n'

REFUSED = [
    # server
    ('server.host = ""', "server.host", 'expected text that is not empty, got ""'),
    ("server.host = 1", "server.host", "expected text that is not empty, got 1"),
    ("server.port = -1", "server.port", "expected a whole number from 0 to 65535, got -1"),
    ("server.port = true", "server.port", "expected a whole number from 0 to 65535, got true"),
    ('server.port = "80"', "server.port", 'got "80"'),
    ("server.port = 80.5", "server.port", "got 80.5"),
    ('server.allowed_hosts = ["http://a"]', "server.allowed_hosts[0]", "expected a host name or address"),
    ('server.allowed_hosts = ["a:80"]', "server.allowed_hosts[0]", "expected a host name or address"),
    ('server.allowed_hosts = "a"', "server.allowed_hosts", "expected a list of text, each a host name or address"),
    ('server.allowed_origins = ["null", "https://a/"]', "server.allowed_origins[1]", "expected an origin"),
    ('server.allowed_origins = ["a.example"]', "server.allowed_origins[0]", "expected an origin"),
    ('server.allowed_origins = ["*"]', "server.allowed_origins[0]", "expected an origin"),
    ('server.allowed_origins = ["https://a:x"]', "server.allowed_origins[0]", "expected an origin"),
    ('server.allowed_origins = ["https://*.a"]', "server.allowed_origins[0]", "expected an origin"),
    ('server.frame_ancestors = ["a.example"]', "server.frame_ancestors[0]", "expected an origin that a Content-Sec"),
    ('server.frame_ancestors = ["https://a", "null"]', "server.frame_ancestors[1]", 'no path, got "null"'),
    ('server.frame_ancestors = ["*"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://*.a"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a; script-src *"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a,https://b"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a https://b"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a\\r\\nX: y"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a\\n"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a/"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["http://[::1]:80"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["http://my_nas"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a."]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["https://a:70000"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = ["app://x"]', "server.frame_ancestors[0]", "expected an origin"),
    ('server.frame_ancestors = "https://a"', "server.frame_ancestors", "expected a list of text"),
    ('server.trusted_proxies = ["proxy"]', "server.trusted_proxies[0]", "expected an address or a network"),
    ('server.trusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies[0]", "expected an address or a network"),
    ('server.root_path = "live"', "server.root_path", 'expected "" or a path such as "/live"'),
    ('server.root_path = "/live/"', "server.root_path", 'expected "" or a path such as "/live"'),
    ('server.tls_cert_file = "FILE"', "server.tls_key_file", "because tls_cert_file is given, got nothing"),
    ('server.tls_key_file = "FILE"', "server.tls_cert_file", "because tls_key_file is given, got nothing"),
    ('server.tls_key_file = "DIRECTORY"', "server.tls_key_file", "expected a file that exists and can be read"),
    ('server.tls_key_file = "none"', "server.tls_key_file", 'got "none" (looked at /'),
    ('server.tls_key_file = "\\u0000"', "server.tls_key_file", "expected a file that exists and can be read"),
    ('server.tls_key_file = ""', "server.tls_key_file", "expected a file that exists and can be read"),
    ('server.state_dir = "\\u0000"', "server.state_dir", 'expected a directory, or "" for none'),
    ('server.default_types = ["a.*.b"]', "server.default_types[0]", "expected a pattern"),
    ("server.heartbeat_interval_s = 0", "server.heartbeat_interval_s", "expected a number of seconds above 0"),
    ("server.heartbeat_interval_s = nan", "server.heartbeat_interval_s", "got nan"),
    ("server.drain_s = inf", "server.drain_s", "expected a number of seconds from 0 to 31536000, got inf"),
    ("server.drain_s = -0.1", "server.drain_s", "got -0.1"),
    ("server.drain_s = 2026-11-22", "server.drain_s", "got 2026-11-22"),
    ("server.drain_s = [1]", "server.drain_s", "got a list"),
    ("server.drain_min_s = 5.1", "server.drain_min_s", "expected at most drain_s (5.0 seconds), got 5.1"),
    ("server.drain_s = 1\nserver.drain_min_s = 2", "server.drain_min_s", "at most drain_s (1.0 seconds)"),
    ("server.max_clients = 0", "server.max_clients", "expected a whole number from 1 to"),
    ("server = 1", "server", "expected a table, got 1"),
    # limits and history
    ("limits.messages_per_s = 0", "limits.messages_per_s", "expected a number per second above 0"),
    ("limits.message_bytes = 1.5", "limits.message_bytes", "expected a whole number of bytes from 1 to"),
    (
        "limits.send_buffer_soft_bytes = 4194304",
        "limits.send_buffer_soft_bytes",
        "expected less than send_buffer_hard_bytes (4194304), got 4194304",
    ),
    ("history.events = -1", "history.events", "expected a whole number from 0 to"),
    # backends
    ('[backends.B]\nurl = "http://h"', "backends.B", 'expected a backend name of [a-z0-9_-]+, got "B"'),
    ('[backends."b\\n"]\nurl = "http://h"', 'backends."b\\n"', "expected a backend name"),
    ("backends.b = 1", "backends.b", "expected a table, got 1"),
    ("backends = []", "backends", "expected a table, got an empty list"),
    (
        "[backends.b]",
        "backends.b.url",
        "expected a URL: http://, https://, ws:// or wss:// with a host",
    ),
    ('backends.b.url = "ftp://h"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http:///rpc"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://["', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://h:99999"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://h:0"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://h\\n/"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://h/a b"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    ('backends.b.url = "http://h/#x"', "backends.b.url", "expected a URL: http://, https://, ws://"),
    (
        BACKEND + 'protocol = "grpc"',
        "backends.b.protocol",
        'expected one of "jsonrpc", "http", or the name of a plug-in',
    ),
    (
        BACKEND + 'protocol = "G"',
        "backends.b.protocol",
        'expected "jsonrpc", "http" or the name of a plug-in: [a-z0-9_-]+',
    ),
    ("backends.b = {}", "backends.b.url", "with a host and no fragment, tcp://HOST:PORT"),
    (
        BACKEND + 'protocol = "http"\njsonrpc = "1.0"',
        "backends.b.jsonrpc",
        'expected no such key, because protocol is "http", got "1.0"',
    ),
    (BACKEND + 'jsonrpc = "1.1"', "backends.b.jsonrpc", 'expected one of "2.0", "1.0", got "1.1"'),
    (BACKEND + 'batch = "yes"', "backends.b.batch", 'expected true or false, got "yes"'),
    (BACKEND + 'protocol = "http"\nbatch = true', "backends.b.batch", 'expected false, because protocol is "http"'),
    (BACKEND + 'headers = { "a b" = "" }', 'backends.b.headers."a b"', "expected a header name"),
    (BACKEND + 'headers = { a = "x\\ny" }', "backends.b.headers.a", "expected text in one line"),
    (BACKEND + 'headers = { a = " x" }', "backends.b.headers.a", "expected text in one line"),
    (BACKEND + 'socket = ""', "backends.b.socket", 'expected the path of a Unix socket, got ""'),
    (BACKEND + 'socket = "a\\u0000b"', "backends.b.socket", "expected the path of a Unix socket"),
    (
        BACKEND + 'tls_name = "h"',
        "backends.b.tls_name",
        "expected no such key, because url begins with http://, which is without TLS, got one",
    ),
    ('backends.b = { url = "https://h", tls_name = "h:1" }', "backends.b.tls_name", "expected a host name or address"),
    (BACKEND + 'proxy = "https://p:1"', "backends.b.proxy", "expected http://HOST:PORT, with USER:PASSWORD@ before"),
    (BACKEND + 'proxy = "http://p"', "backends.b.proxy", 'got "http://p"'),
    (BACKEND + 'proxy = "http://p:1/x"', "backends.b.proxy", "expected http://HOST:PORT"),
    (BACKEND + 'proxy = "http://u:secret@p:1?"', "backends.b.proxy", 'got "http://***@p:1?"'),
    (
        BACKEND + 'socket = "s"\nproxy = "http://p:1"',
        "backends.b.proxy",
        "expected no such key beside socket, got both",
    ),
    (BACKEND + 'ca_file = "none"', "backends.b.ca_file", "expected a file that exists"),
    (BACKEND + 'bearer_token_file = "none"', "backends.b.bearer_token_file", 'got "none" (looked at /'),
    (BACKEND + 'client_cert_file = "FILE"', "backends.b.client_key_file", "because client_cert_file is given"),
    (BACKEND + 'client_key_file = "FILE"', "backends.b.client_cert_file", "because client_key_file is given"),
    (
        BACKEND + 'bearer_token_file = "FILE"\nheaders = { Authorization = "Basic x" }',
        "backends.b.bearer_token_file",
        "expected no such key beside an Authorization header, got both",
    ),
    (BACKEND + 'session.keep = "cookies"', "backends.b.session.keep", "expected a login beside it (method, path, url,"),
    (BACKEND + "session.verb = 'PUT'", "backends.b.session.verb", "expected a login beside it"),
    (BACKEND + 'session.method = "m"', "backends.b.session", "expected keep, token or header: what the login gives"),
    (
        BACKEND + "session.on_status = [409]",
        "backends.b.session.on_status",
        "a login (method, path, url, form or body) or",
    ),
    (
        BACKEND + 'session = { method = "m", path = "p", keep = "cookies" }',
        "backends.b.session.path",
        "expected no such key beside method, got both",
    ),
    (
        BACKEND + 'session = { form = { a = "b" }, body = "p", keep = "cookies" }',
        "backends.b.session.body",
        "expected no such key beside form, got both",
    ),
    (
        BACKEND + 'session = { path = "p", params = [1], keep = "cookies" }',
        "backends.b.session.params",
        "expected none, unless method is that of a JSON-RPC login, got some",
    ),
    (
        BACKEND + 'protocol = "http"\nsession = { path = "p", keep = "cookies", on_code = [1] }',
        "backends.b.session.on_code",
        'expected none, because protocol is "http", got some',
    ),
    (
        BACKEND + 'session = { path = "p?t={token}", token = "/t" }',
        "backends.b.session",
        "expected a login without {token}, which it is to give, got one with it",
    ),
    (
        BACKEND + 'secrets = { token_env = "T" }\nsession = { path = "p", token = "/t" }',
        "backends.b.secrets",
        "expected no secret of the name token, because the login gives {token}, got one",
    ),
    (BACKEND + 'session.url = "ftp://h"', "backends.b.session.url", "expected an http:// or https:// URL without a"),
    (
        'backends.b.url = "ws://h"\nbackends.b.session = { method = "m", keep = "cookies" }',
        "backends.b.session.keep",
        "expected no such key, because a connection that lasts is the session, got one",
    ),
    (
        BACKEND + 'secrets = { k_env = "K" }\nsession = { path = "p", token = "/t", headers = { A = "{x}" } }',
        "backends.b.session.headers.A",
        "expected only names that [secrets] has (k) in braces, got {x}",
    ),
    (BACKEND + 'secrets = { key = "x" }', "backends.b.secrets.key", "expected NAME_file or NAME_env, with a name of"),
    (BACKEND + 'secrets = { _file = "FILE" }', "backends.b.secrets._file", "expected NAME_file or NAME_env"),
    (BACKEND + 'secrets = { key_file = "none" }', "backends.b.secrets.key_file", "expected a file that exists"),
    (BACKEND + 'secrets = { key_env = "" }', "backends.b.secrets.key_env", "expected the name of a variable"),
    (
        BACKEND + 'secrets = { key_file = "FILE", key_env = "K" }',
        "backends.b.secrets.key_env",
        "expected no such key beside key_file, got both",
    ),
    (
        BACKEND + 'headers = { X-Key = "{kee}" }\nsecrets = { key_env = "K", b_env = "B" }',
        "backends.b.headers.X-Key",
        "expected only names that [secrets] has (b, key) in braces, got {kee}",
    ),
    (
        BACKEND + 'secrets.key_env = "K"\nproxy = "http://u:{kee}@p:1"',
        "backends.b.proxy",
        "expected only names that [secrets] has (key) in braces, got {kee}",
    ),
    (
        'backends.b.secrets.key_env = "K"\nbackends.b.url = "http://u:{kee}@h/{other}"',
        "backends.b.url",
        "expected only names that [secrets] has (key) in braces, got {kee}",
    ),
    (
        BACKEND + "retry_s = 0.05",
        "backends.b.retry_s",
        "expected 0 (off), or a number of seconds from 0.1 to 60, got 0.05",
    ),
    (BACKEND + "retry_s = 61", "backends.b.retry_s", "expected 0 (off), or a number of seconds from 0.1 to 60, got 61"),
    (BACKEND + "retry_s = -1", "backends.b.retry_s", "expected 0 (off), or a number of seconds from 0.1 to 60, got -1"),
    (BACKEND + "retry_s = nan", "backends.b.retry_s", "expected 0 (off), or a number of seconds from 0.1 to 60"),
    (BACKEND + 'retry_s = "1"', "backends.b.retry_s", "expected 0 (off), or a number of seconds from 0.1 to 60"),
    (BACKEND + "breaker.failure_threshold = 0", "backends.b.breaker.failure_threshold", "from 1 to"),
    (
        BACKEND + "breaker.open_max_s = 1.5",
        "backends.b.breaker.open_max_s",
        "expected at least open_s (2.0 seconds), got 1.5",
    ),
    (
        BACKEND + "breaker.failure_rate = 1.1",
        "backends.b.breaker.failure_rate",
        "expected a number above 0 and up to 1",
    ),
    (
        BACKEND + 'breaker.ignored_codes = ["x"]',
        "backends.b.breaker.ignored_codes[0]",
        'expected a whole number, got "x"',
    ),
    (BACKEND + "breaker.ignored_codes = 1", "backends.b.breaker.ignored_codes", "expected a list of whole numbers"),
    # sources
    ('[sources.s]\nbackend = "x"\nmethod = "m"', "sources.s.backend", 'the name of a backend (there is none), got "x"'),
    (SOURCE + 'backend = "x"', "sources.s.backend", 'expected the name of a backend (b), got "x"'),
    (BACKEND + '[sources.s]\nbackend = "b"', "sources.s", "expected exactly one of method, path, got none"),
    (SOURCE + 'method = ""', "sources.s.method", 'expected text that is not empty, got ""'),
    (SOURCE.replace("s.s", 's."A"'), "sources.A", "expected an event type"),
    (SOURCE.replace("s.s", "s.heartbeat"), "sources.heartbeat", "not reserved"),
    (SOURCE.replace("s.s", 's."circuit_breaker.state"'), 'sources."circuit_breaker.state"', "not reserved"),
    (SOURCE + "interval_s = 0", "sources.s.interval_s", "expected a number of seconds above 0"),
    (SOURCE + "idle_interval_s = 4", "sources.s.idle_interval_s", "expected at least interval_s (5.0 seconds), got 4"),
    (SOURCE + "max_stale_s = 0", "sources.s.max_stale_s", "expected a number of seconds above 0"),
    (SOURCE + 'select = "a"', "sources.s.select", "expected a JSON Pointer"),
    (SOURCE + 'items = "/a~2"\nkey = "k"', "sources.s.items", "expected a JSON Pointer"),
    (SOURCE + 'key = "id"', "sources.s.items", "expected a value, because key is given, got nothing"),
    (SOURCE + "items = []", "sources.s.items", "expected a JSON Pointer"),
    (
        SOURCE + 'items = ["/a", "b"]\nkey = ["k", "l"]',
        "sources.s.items",
        "expected a JSON Pointer (RFC 6901), such as",
    ),
    (SOURCE + 'items = ["/a", "/b"]\nkey = "k"', "sources.s.key", "for each of the 2 levels of items, got 1"),
    (
        SOURCE + 'items = ["/a", "/b"]\nkey = ["k"]',
        "sources.s.key",
        "for each of the 2 levels of items, got 1",
    ),
    (SOURCE + 'items = "/a"\nkey = [["k"]]', "sources.s.key", "names and pointers, because items is one pointer"),
    (SOURCE + 'items = "/a"\nkey = "/~2"', "sources.s.key", "the name of a field, or a JSON Pointer"),
    (SOURCE + 'items = "/a"\nkey = []', "sources.s.key", "the name of a field, or a JSON Pointer"),
    (SOURCE + "fields = {}", "sources.s.fields", "at least one name with a pointer"),
    (SOURCE + 'fields = { a = "b" }', "sources.s.fields.a", "expected a JSON Pointer"),
    (SOURCE + 'missing = "no"', "sources.s.missing", 'expected one of "error", "null", "leave_out"'),
    (SOURCE + 'ignore = ["/t"]', "sources.s.ignore", "unless on_change = true or items is given"),
    (SOURCE + 'on_change = true\nignore = [""]', "sources.s.ignore[0]", "a pointer to a part of the data"),
    (
        SOURCE + 'on_change = true\nfields = { a = "/b" }\nignore = ["/b"]',
        "sources.s.ignore[0]",
        'a pointer that begins with one of the fields (/a), got "/b"',
    ),
    (SOURCE + 'breaker = "none"', "sources.s.breaker", 'expected one of "backend", "own"'),
    (SOURCE + 'params = "x"', "sources.s.params", "expected a table or list of JSON values"),
    (SOURCE + "params = { at = 2026-11-22 }", "sources.s.params", "expected a table or list of JSON values"),
    (SOURCE + "params = [[nan]]", "sources.s.params", "expected a table or list of JSON values"),
    (
        HTTP + "params = [1]",
        "sources.s.params",
        'expected none, because backend "b" has protocol = "http"',
    ),
    (HTTP + 'path = "p"', "sources.s", "expected exactly one of method, path, got method and path"),
    (
        SOURCE.replace("method", "path"),
        "sources.s.path",
        'no such key, because backend "b" has protocol = "jsonrpc" (for plain HTTP set protocol = "http"; JSON-RPC',
    ),
    (SOURCE + "body = {}", "sources.s.body", "no such key, because backend"),
    (SOURCE + 'verb = "POST"', "sources.s.verb", "no such key, because backend"),
    (SOURCE + 'headers = { a = "b" }', "sources.s.headers", "no such key, because backend"),
    (SOURCE + "success_statuses = [503]", "sources.s.success_statuses", "no such key, because backend"),
    (HTTP + "body = 1", "sources.s.body", "expected text, or a table or list of JSON values"),
    (HTTP + "body = { at = 2026-11-22 }", "sources.s.body", "expected text, or a table or list of JSON values"),
    (HTTP + 'verb = "post"', "sources.s.verb", "expected an HTTP method in capitals"),
    (HTTP + 'verb = "HEAD"', "sources.s.verb", 'whose answer has a body, got "HEAD"'),
    (HTTP + 'verb = "GET /"', "sources.s.verb", "expected an HTTP method in capitals"),
    (HTTP + 'headers = { "a b" = "" }', 'sources.s.headers."a b"', "expected a header name"),
    (HTTP + 'headers = { a = " x" }', "sources.s.headers.a", "expected text in one line"),
    (HTTP + 'headers = { content-length = "3" }', "sources.s.headers.content-length", "none of Content-Length"),
    (HTTP + 'headers = { Accept-Encoding = "gzip" }', "sources.s.headers.Accept-Encoding", "none of Content-Length"),
    (HTTP.replace('method = "m"', 'path = "a#b"'), "sources.s.path", 'a path with query in one line, without "#"'),
    (HTTP.replace('method = "m"', 'path = "a\\nb"'), "sources.s.path", "a path with query in one line"),
    (HTTP.replace('"m"', '"a#b"'), "sources.s.method", 'because backend "b" has protocol = "http", got "a#b"'),
    (HTTP + "success_statuses = [101]", "sources.s.success_statuses[0]", "expected a whole number from 200 to 599"),
    (SOURCE + 'format = "csv"', "sources.s.format", "no such key, because backend"),
    (HTTP + 'format = "xml"', "sources.s.format", 'expected one of "json", "prometheus", "csv", "text", got "xml"'),
    (HTTP + 'match = ["m"]', "sources.s.match", 'expected no such key, unless format = "prometheus", got one'),
    (HTTP + 'format = "csv"\nmatch = ["m"]', "sources.s.match", 'unless format = "prometheus"'),
    (HTTP + 'format = "prometheus"\nmatch = [""]', "sources.s.match[0]", "expected the name of a Prometheus metric"),
    (HTTP + "format = 'prometheus'\nmatch = ['m{a=\"b\"}']", "sources.s.match[0]", "metric, without labels"),
    (HTTP + 'delimiter = ";"', "sources.s.delimiter", 'unless format = "csv"'),
    (HTTP + 'format = "csv"\ndelimiter = ";;"', "sources.s.delimiter", "expected one character"),
    (HTTP + "format = 'csv'\ndelimiter = '\"'", "sources.s.delimiter", "expected one character"),
    (HTTP + "format = 'csv'\nitems = ''", "sources.s.key", "expected a value, because items of format = "),
    (HTTP + "format = 'prometheus'\nitems = ['']", "sources.s.key", "are a list, which has no names, got nothing"),
    (HTTP + "pattern = '(?P<a>b)'", "sources.s.pattern", 'unless format = "text"'),
    (HTTP + 'format = "text"', "sources.s.pattern", 'because format is "text", got nothing'),
    (HTTP + "format = 'text'\npattern = '(a)'", "sources.s.pattern", "got one without a named group"),
    (HTTP + "format = 'text'\npattern = '(?P<a>b'", "sources.s.pattern", "cannot be compiled: missing )"),
    # auth
    ('auth.mode = "basic"', "auth.mode", 'expected one of "none", "token", "jwt", got "basic"'),
    ('auth.mode = "token"', "auth.tokens", 'expected at least one token, because mode is "token", got none'),
    ('auth.mode = "jwt"', "auth.jwt", "expected a table with keys"),
    ('auth.tokens = [{ token = "a" }]', "auth.mode", 'expected "token" or "jwt", because of tokens'),
    ('auth.jwt.jwks_url = "https://h"', "auth.mode", "because of [auth.jwt]"),
    ("auth.tokens = [1]", "auth.tokens[0]", "expected a table"),
    (
        'auth.mode = "token"\nauth.tokens = [{}]',
        "auth.tokens[0]",
        "expected exactly one of token, token_file, got none",
    ),
    (
        'auth.mode = "token"\nauth.tokens = [{ token = "a", token_file = "FILE" }]',
        "auth.tokens[0]",
        "expected exactly one of token, token_file, got token and token_file",
    ),
    ('auth.tokens = [{ token = "a b" }]', "auth.tokens[0].token", "expected printable text without spaces"),
    ('auth.tokens = [{ token = "" }]', "auth.tokens[0].token", "expected printable text without spaces"),
    (
        'auth.tokens = [{ token = "a", roles = ["root"] }]',
        "auth.tokens[0].roles[0]",
        '"publisher", "admin", got "root"',
    ),
    (
        'auth.tokens = [{ token = "a", roles = [] }]',
        "auth.tokens[0].roles",
        "with at least one item, got an empty list",
    ),
    ('auth.tokens = [{ token = "a", types = ["A"] }]', "auth.tokens[0].types[0]", "expected a pattern"),
    (
        '[auth]\nmode = "jwt"\n[auth.jwt]',
        "auth.jwt",
        "expected exactly one of key_file, jwks_url, secret_file, got none",
    ),
    (JWT + 'key_file = "FILE"', "auth.jwt", "got key_file and jwks_url"),
    (JWT + 'algorithms = ["none"]', "auth.jwt.algorithms[0]", 'expected one of "HS256", "RS256", "ES256", got "none"'),
    (JWT + "algorithms = []", "auth.jwt.algorithms", "with at least one item"),
    (
        JWT + 'algorithms = ["RS256", "HS256"]',
        "auth.jwt.algorithms",
        "expected RS256 or ES256; HS256 goes with secret_file",
    ),
    (
        '[auth]\nmode = "jwt"\n[auth.jwt]\nsecret_file = "FILE"',
        "auth.jwt.algorithms",
        "expected HS256 alone, with secret_file, got RS256",
    ),
    # the network
    (
        'server.host = "0.0.0.0"',
        "server.host",
        'unless [auth] mode = "token" or "jwt" is set, got "0.0.0.0" with mode = "none"',
    ),
    ('server.host = "::"', "server.host", "expected a loopback address"),
    ('server.host = "nas.example"', "server.host", "expected a loopback address"),
]


@pytest.mark.parametrize(("text", "path", "message"), REFUSED)
def test_refused(problems: Problems, tmp_path: Path, text: str, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    last_wins: dict[str, str] = {}
    for line in text.replace("FILE", str(tmp_path / "file")).replace("DIRECTORY", str(tmp_path)).splitlines():
        last_wins[line if line.startswith("[") else line.partition("=")[0]] = line
    found = problems("\n".join(last_wins.values()))
    assert list(found) == [path]
    assert message in found[path]


ALLOWED = [
    'server.host = "localhost"',
    'server.host = "127.8.8.8"',
    'server.host = "::1"',
    'server.host = "0.0.0.0"\n' + JWT,
    'server.allowed_hosts = ["nas", "nas.example", "10.0.0.1", "::2", "[::2]"]',
    'server.allowed_origins = ["null", "https://a.example", "http://localhost:3000", "http://[::1]:80", "app://x"]',
    'server.frame_ancestors = ["https://Wiki.example", "http://nas:8080", "http://192.0.2.7", "https://xn--nxasm.de"]',
    'server.trusted_proxies = ["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"]',
    'server.root_path = "/a/b"',
    'server.default_types = ["*", "a.*", "heartbeat"]',
    "server.drain_s = 0",
    "server.drain_s = 2\nserver.drain_min_s = 2",
    "server.port = 0",
    "history = { events = 0, bytes = 0 }",
    BACKEND + "headers = { Authorization = \"Basic x\", X-Empty = '' }",
    BACKEND + 'headers = { X-Key = "{any}" }',
    BACKEND + 'headers = { X-Key = "{token}" }\nsession = { path = "p", token = "/t" }',
    BACKEND + 'session = { header = "X-A", on_status = [409] }',
    BACKEND + 'headers = { X-Key = "Token {k-1}{k-1}" }\nsecrets = { k-1_env = "K" }',
    BACKEND + "retry_s = 0",
    BACKEND + "retry_s = 0.1",
    BACKEND + "retry_s = 60",
    BACKEND + "breaker.open_s = 1000",
    BACKEND + "breaker = { open_s = 5, open_max_s = 5, failure_rate = 1.0, ignored_codes = [-32000] }",
    SOURCE + 'items = ""\nkey = "id"\nselect = "/a~1b/~0/0"',
    SOURCE + "idle_interval_s = 5\nparams = [1, 2.5, true, { a = [] }]",
    HTTP,
    HTTP.replace("method", "path"),
    HTTP.replace('method = "m"', 'path = ""'),
    HTTP + "body = { a = [1] }\nheaders = { Authorization = 'x' }\nsuccess_statuses = [200, 404]",
    HTTP + "body = [1]\nverb = 'GET'",
    HTTP.replace('"m"', '"a?b=é%23{c}"'),
    SOURCE.replace('"m"', '"a#b"'),
    HTTP + "format = 'prometheus'\nmatch = ['a:b_c', 'a.b']",
    HTTP + "format = 'csv'\ndelimiter = '\t'",
    HTTP + "format = 'csv'\nitems = ''\nkey = 'a'",
    HTTP + "format = 'csv'\nselect = '/0'\nitems = ''",
    HTTP + "format = 'text'\npattern = '(?P<a>\\\\d+)'",
    HTTP + "body = 'text'\nverb = 'REPORT'",
    JWT + 'algorithms = ["RS256", "ES256"]',
]


def test_a_file_without_permission_is_refused(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = problems({"backends": {"b": {"url": "http://h", "ca_file": str(tmp_path / "ca")}}})
    assert "can be read" in found["backends.b.ca_file"]


@pytest.mark.parametrize("text", ALLOWED)
def test_allowed(text: str) -> None:
    from_document(tomllib.loads(text), environ={})


def test_nothing_follows_from_what_was_refused(problems: Problems) -> None:
    found = problems(
        """
        [server]
        host = "0.0.0.0"
        [backends.b]
        url = "h"
        [backends.c]
        url = "http://h"
        [backends.c.breaker]
        open_s = "long"
        open_max_s = 1.0
        [sources.s]
        backend = "b"
        method = "m"
        interval_s = "x"
        idle_interval_s = 1
        [auth]
        mode = "tokens"
        tokens = [{ token = 1 }]
        """
    )
    assert list(found) == [
        "backends.b.url",
        "backends.c.breaker.open_s",
        "sources.s.interval_s",
        "auth.mode",
        "auth.tokens[0].token",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "auth.tokens = [{ token = 31337 }]",
        'auth.tokens = [{ token = "31337 31337" }]',
        'auth.tokens = ["31337"]',
        'auth.token = "31337"',
        'backends.b = { url = "ftp://user:31337@h" }',
        'backends.b = { url = "http://user:a/31337@h#" }',
        'backends.b = { url = "http://h/?api_key=31337#" }',
        'backends.b = { url = "http://h", headers = { Authorization = 31337 } }',
        'backends.b = { url = "http://h", headers = { Cookie = "31337\\n" } }',
    ],
)
def test_messages_show_no_secret(problems: Problems, text: str) -> None:
    assert "31337" not in str(problems(text))


def test_long_values_are_cut_short(problems: Problems) -> None:
    assert len(problems({"server": {"root_path": "x" * 10_000}})["server.root_path"]) < 300
