"""Steps of the certificate, run as root by provision (host/lib/tls.sh)."""

from ..config.settings import Settings
from ..plan import certificate
from .step import Step


def prepare(settings: Settings) -> Step:
    """See that nginx can speak https once the site asks for it: a pair of files is judged before anything uses it."""
    tls = settings.tls
    pair = {"certificate": tls.certificate, "key": tls.key}
    return Step("prepare_the_certificate", "Prepare the certificate", "prepare_tls", {**_wanted(settings), **pair})


def obtain(settings: Settings) -> Step:
    """Have the site certified, through the nginx site that is installed by now."""
    account = {"email": settings.tls.letsencrypt, "acme_server": settings.tls.acme_server}
    parameters = {**_wanted(settings), **account}
    return Step("obtain_the_certificate", "Obtain the certificate", "obtain_certificate", parameters, timeout=300)


def forget() -> Step:
    """Take away what `prepare` left, once https is no longer wanted."""
    return Step("forget_the_certificate", "Forget the certificate", "forget_tls")


def _wanted(settings: Settings) -> dict[str, str | list[str]]:
    return {"words": certificate.words(settings), "names": certificate.names(settings)}
