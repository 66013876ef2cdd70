"""The whole runtime in virtual time: worlds of one seed each, where everything fails and every client is listened to.

`world.live` puts the real gateway together (poller, breaker, HTTP client, HTTP and WebSocket protocols, sessions) on
fake sockets, between backends that fail as `scenario` draws it and `clients` that come, go, resume, change their minds
and stall. What they heard is held against the truth: `reading` asks each connection whether it was whole and in order,
`truth` asks every event whether it was so, `breakers` predicts every move of a breaker. What the gateway does to a
backend is held to the rules of recovery: `knocks`, `accounts` (refused secrets), `rates` (repetitions and catching up)
and `bounds` (how soon everything is fresh again). `network` connects, refuses and hangs as kernels and resolvers do.

Worlds of `reloading` have their configuration changed some fifty times, as `reloads` draws it, by the swap that the
program makes. `switches` judges what is told around that, by the answers of each era of a source (`origins`).

The models read the rules, not the gateway. Where the rules leave two readings open, both are allowed.

``python -m simulation SEED`` lives one world; `tests/simulation` says how to live many.
"""
