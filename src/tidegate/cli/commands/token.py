"""The ``token`` command: makes tokens for clients."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate.core.access.grant import RoleName

app = App(name="token", help="Make tokens for clients.")


@app.command(name="create")
def create(
    *,
    role: Annotated[list[RoleName] | None, Parameter(negative=())] = None,
    types: str | None = None,
    file: Path | None = None,
    key_file: Path | None = None,
    secret_file: Path | None = None,
    sub: str | None = None,
    expires_s: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> int:
    """Make a token to list under [[auth.tokens]], or, with a key, a signed token for mode = "jwt".

    Parameters
    ----------
    role
        Role of the token, repeatable; by default subscriber.
    types
        Patterns that the token covers, separated by commas; by default everything.
    file
        File to write the token to, readable only by its owner. It must not exist. By default the token is printed.
    key_file
        Private key in PEM to sign with: RSA for RS256, EC on P-256 for ES256.
    secret_file
        Shared secret to sign with, for HS256.
    sub
        Subject, shown in logs. This and the following options are for signed tokens only.
    expires_s
        Lifetime in seconds; by default an hour.
    audience
        Audience, if [auth.jwt] names one.
    issuer
        Issuer, if [auth.jwt] names one.
    """
    from tidegate.cli import tokens

    return tokens.create(
        tokens.Bearer(roles=role or ["subscriber"], types=types),
        tokens.Signing(
            key_file=key_file,
            secret_file=secret_file,
            subject=sub,
            expires_s=expires_s,
            audience=audience,
            issuer=issuer,
        ),
        file=file,
    )
