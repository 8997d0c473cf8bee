"""Runs on the host: comes to the site as a visitor does, follows where it leads, and says what it found.

Takes name=value words: `names` (what the site is called, one a line, `domain` first), `proxy` (not empty when visitors
come through a proxy that speaks https), and either `socket` (gunicorn's private one, in the proof) or `port` (nginx's).
With the socket also `static_url`, `static_root`, and `new`: not empty when a page without its files is no good.
With the port also `health_path`, the `mark` that nginx sets there, and `page`, the file that closes the site.

A browser keeps cookies and follows redirects, and so does this. Prints one line. Ends with 1 for what may pass or what
the app's log tells more of, with 2 for what will stay as it is.
"""

import http.client
import socket
import struct
import sys
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

REDIRECTS = 5
FILES = 20  # of a page that are looked for
ASKED = 5  # of a page that the app is asked for
TIME = 10  # seconds for one answer
LARGEST = 1_000_000  # bytes of a page that are read
SECURE = 443
MARK = "X-Django-Deploy"
PLAIN = "%/:=&?~+!$,;'@()*[]"  # stands in a URL as it is


class Broken(Exception):
    """What a visitor finds is no site; `code` is how the program ends."""

    def __init__(self, words, code=2):
        super().__init__(words)
        self.code = code


class Way(http.client.HTTPConnection):
    """One connection to where a visitor's request ends up."""

    def __init__(self, host, opened):
        super().__init__(host, timeout=TIME)
        self.sock = opened


class Answer:
    """What was answered to a request: status, headers, the beginning of the body."""

    def __init__(self, response):
        self.status, self.headers = response.status, response.headers
        self.body = response.read(LARGEST)

    @property
    def target(self):
        """Where it sends a visitor."""
        return self.headers.get("Location") if self.status in (301, 302, 303, 307, 308) else None

    @property
    def is_page(self):
        return self.status == 200 and self.headers.get_content_type() == "text/html"


class Visit:
    """One visitor, who comes to `domain` without having been here before."""

    proxy = socket = static_url = static_root = new = health_path = mark = page = ""
    port = "80"

    def __init__(self, names, **words):
        vars(self).update(words)
        self.names = names.lower().split()
        self.cookies = {}

    def said(self):
        """What the visitor finds, in words. Raises Broken."""
        start = f"{'https' if self.proxy else 'http'}://{self.names[0]}/"
        self.see_the_right_site(start)
        url, answer = self.follow(start)
        if answer is None:
            return f"/ leads to {url}"
        found = f"/ answers {answer.status}" if url == start else f"/ leads to {self.short(url)}, {answer.status}"
        if answer.status == 503 and Path(self.page).is_file():
            return f"{found}: the maintenance page is on"
        if answer.status == 400:
            host = urlsplit(url).hostname
            raise Broken(f"{self.short(url)} answers 400 to a visitor: ALLOWED_HOSTS of the app lacks {host}")
        if answer.status >= 500:
            raise Broken(f"{self.short(url)} answers {answer.status} to a visitor", 1)
        return found + (self.see_its_files(url, answer) if answer.is_page and self.static_url else "")

    def see_the_right_site(self, start):
        """Raise Broken when nginx answers for the domain with another site."""
        if self.mark and self.get(urljoin(start, self.health_path)).headers.get(MARK) != self.mark:
            raise Broken(f"for {self.names[0]} nginx answers with another site", 1)
        self.cookies.clear()

    def follow(self, url):
        """Where the site leads, and the answer there; none when that is another site."""
        seen = []
        for _ in range(REDIRECTS + 1):
            seen.append((url, dict(self.cookies)))
            answer = self.get(url)
            if not answer.target:
                return url, answer
            before, url = url, joined(url, answer.target)
            if not url:
                raise Broken(f"the app redirects {self.short(before)} to {answer.target[:100]}, which is no URL")
            where = urlsplit(url)
            if where.scheme not in ("http", "https") or (where.hostname or "") not in self.names:
                return url, None
            self.see_that_it_is_open(before, url)
            if (url, self.cookies) in seen:
                break
        if url == before and where.scheme == "https":
            raise Broken(f"{url} is redirected to itself: the app does not see that the visitor came by https")
        if (url, self.cookies) in seen:
            circle = " -> ".join(self.short(each) for each in [*(each for each, _ in seen), url])
            raise Broken(f"the app sends a visitor in a circle: {circle}")
        raise Broken(f"the app redirects a visitor more than {REDIRECTS} times, at last to {self.short(url)}")

    def see_that_it_is_open(self, before, url):
        """Raise Broken when a visitor is sent to a port of this host at which nobody listens."""
        where = urlsplit(url)
        secure = where.scheme == "https"
        port = where.port or (SECURE if secure else 80)
        if port == 80 or (secure and self.proxy) or listener(port):
            return
        answers = "https" if port == SECURE else f"at port {port}"
        raise Broken(f"the app redirects {self.short(before)} to {url}, but nothing on this host answers {answers}")

    def get(self, url):
        """Ask for it, as what stands before gunicorn would hand it on, or as a visitor asks nginx."""
        where = urlsplit(url)
        headers = {
            "Host": where.netloc.rpartition("@")[2],
            "User-Agent": "django-deploy (visitor)",
            "Connection": "close",
        }
        secure = where.scheme == "https"
        if self.socket:
            headers |= {"Host": where.hostname, "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"}
        if self.socket or (self.proxy and secure):
            headers["X-Forwarded-Proto"] = where.scheme
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        path = quote((where.path or "/") + (f"?{where.query}" if where.query else ""), safe=PLAIN)
        try:
            way = Way(where.hostname, self.opened(where.hostname, secure=secure))
            way.request("GET", path, headers=headers)
            answer = Answer(way.getresponse())
            way.close()
        except TimeoutError:
            raise Broken(f"{self.short(url)} does not answer a visitor within {TIME} s", 1) from None
        except (http.client.HTTPException, ConnectionResetError) as error:
            raise Broken(f"{self.short(url)} gives a visitor no answer ({type(error).__name__})", 1) from None
        except OSError as error:
            raise Broken(f"{self.short(url)} gives a visitor no answer ({error})") from None
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name.strip()] = value.strip()
        return answer

    def opened(self, host, secure):
        """A connection to gunicorn's socket, or to nginx."""
        if self.socket:
            way = socket.socket(socket.AF_UNIX)
            way.settimeout(TIME)
            way.connect(self.socket)
            return way
        if not secure or self.proxy:
            return socket.create_connection(("127.0.0.1", self.port), TIME)
        import ssl  # takes a while to import, and few need it

        # Whether browsers take the certificate is what the watch on public_url tells: it comes by the right name.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection((listener(SECURE), SECURE), TIME), server_hostname=host)

    def short(self, url):
        """A URL of the site without what goes without saying."""
        where = urlsplit(url)
        return url if where.hostname != self.names[0] or where.scheme == "https" else where.path or "/"

    def see_its_files(self, url, answer):
        """Raise Broken when a new release lacks what its page needs; what is missing else, in words."""
        page = page_class()(url)
        page.feed(answer.body.decode("utf-8", "replace"))
        lacked = [each for each in page.needed[:FILES] if self.lacks(each)]
        unknown = [each for each in page.needed if self.is_the_apps(each)][:ASKED]
        unknown = [each for each in unknown if self.get(each).status == 404]
        if self.new and lacked:
            raise Broken(f"{self.short(url)} needs {urlsplit(lacked[0]).path}, which is not in {self.static_root}")
        if self.new and unknown:
            raise Broken(f"{self.short(url)} needs {urlsplit(unknown[0]).path}, which the app answers with 404")
        lacked += [each for each in page.more[:FILES] if self.lacks(each)]
        names = ", ".join(urlsplit(each).path for each in (lacked + unknown)[:3])
        return f"; a page without {names}" if names else ""

    def static_path(self, url):
        """The path below static_url of a URL of this site; None for all others."""
        path = unquote(urlsplit(url).path)
        return path[len(self.static_url) :] if self.is_own(url) and path.startswith(self.static_url) else None

    def lacks(self, url):
        """Whether it is a static file that the release does not have."""
        path = self.static_path(url)
        return path is not None and not Path(self.static_root, path).is_file()

    def is_the_apps(self, url):
        """Whether nginx hands it on to the app."""
        return self.is_own(url) and self.static_path(url) is None

    def is_own(self, url):
        where = urlsplit(url)
        return where.scheme in ("http", "https") and where.hostname in self.names and not where.port


def joined(url, target):
    """Where `target` on the page `url` leads; "" when it is no URL."""
    try:
        found = urljoin(url, target).partition("#")[0]
        urlsplit(found).port  # noqa: B018 - raises for what is no URL
    except ValueError:
        return ""
    return found


def page_class():
    """A reader of pages that keeps what they need to look and work as they should, and the rest of their files."""
    from html.parser import HTMLParser  # only pages need it

    class Page(HTMLParser):
        def __init__(self, url):
            super().__init__()
            self.url, self.needed, self.more = url, [], []

        def handle_starttag(self, tag, attrs):
            found = {name: value or "" for name, value in attrs}
            if tag == "base":
                self.url = joined(self.url, found.get("href", "")) or self.url
            name = {"link": "href", "script": "src", "img": "src"}.get(tag)
            if found.get(name):
                needed = tag == "script" or "stylesheet" in found.get("rel", "").lower().split()
                self.keep(self.needed if needed else self.more, found[name])

        def keep(self, kept, text):
            url = joined(self.url, text)
            if url and url not in kept:
                kept.append(url)

    return Page


def listener(port):
    """An address of this host at which somebody listens on that port; "" when nobody does."""
    for name, words, family in (("tcp", 1, socket.AF_INET), ("tcp6", 4, socket.AF_INET6)):
        try:
            lines = [line.split() for line in Path("/proc/net", name).read_text().splitlines()[1:]]
        except OSError:
            continue
        for _, local, _, state, *_ in lines:
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                packed = struct.pack(f"={words}I", *struct.unpack(f">{words}I", bytes.fromhex(address)))
                text = socket.inet_ntop(family, packed)
                return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(text, text)  # noqa: S104 - nothing is bound
    return ""


sys.stdout.reconfigure(errors="backslashreplace")  # ty: ignore[missing-union-attribute]
try:
    print(Visit(**dict(word.split("=", 1) for word in sys.argv[1:])).said())
except Broken as broken:
    print(broken)
    sys.exit(broken.code)
