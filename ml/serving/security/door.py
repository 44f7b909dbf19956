"""The order in which a request passes: headers, audit trail, bounds, host, doorkeeper, size, then the routes."""

from fastapi import FastAPI

from core.errors import ConfigurationError
from core.settings import Settings
from ml.serving.audit_trail import AuditTrail
from ml.serving.security.described import describe_door
from ml.serving.security.errors import install_error_handlers
from ml.serving.security.headers import BodyCap, Bounds, SecurityHeaders, TrustedHosts
from ml.serving.security.limits import Doorkeeper
from ml.serving.security.scopes import undeclared_routes


def secure(app: FastAPI, settings: Settings) -> None:
    """Call it when every route is there. Each request needs ``app.state.journal`` (`Journal`) and ``app.state.tokens``
    (`Tokens`). Errors: `ConfigurationError` for a route that neither demands a scope nor is public."""
    if undeclared := undeclared_routes(app):
        raise ConfigurationError(
            f"{undeclared[0]} declares no scope; give it Depends(require(…)) of ml.serving.security.scopes"
        )
    install_error_handlers(app)
    describe_door(app)
    # Added last is outermost. What is refused is audited, whoever refuses it; what is audited carries the headers.
    app.add_middleware(BodyCap, settings=settings)
    app.add_middleware(Doorkeeper, settings=settings)
    app.add_middleware(TrustedHosts, settings=settings)
    app.add_middleware(Bounds, settings=settings)
    app.add_middleware(AuditTrail)
    app.add_middleware(SecurityHeaders, settings=settings)
