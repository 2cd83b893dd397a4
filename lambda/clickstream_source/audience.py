"""What an access log lets one tell: programs from people, kinds of device, assets from pages."""

import re

BOT = "bot"
_WEB_ADDRESS_OR_ROBOT = re.compile(
    r"https?://|bot\b|bot[/_-]|crawl|spider|slurp|mediapartners|archiver|feed|rss\b|fetch|monitor|scan"
    r"|curl/|wget|libwww|python|perl|ruby|java/|go-http|okhttp|httpclient|phantomjs|headless",
    re.IGNORECASE,
)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(
    r"mobi|iphone|ipod|android|windows (?:phone|ce)|blackberry|opera mini|symbian|nokia", re.IGNORECASE
)
_BROWSER = re.compile(r"(?:Mozilla|Opera|Lynx|Links|ELinks|w3m)\b", re.IGNORECASE)
_ASSET = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|avif|bmp|tiff?|ico|cur|css|m?js|map|woff2?|ttf|otf|eot)", re.IGNORECASE
)


def device_of(agent: str) -> str:
    """Tell the kind of device from a user agent: bot, tablet, mobile, desktop or unknown.

    A bot is a program that says so: by the name of a crawler, feed reader or HTTP library, or by a web
    address, which browsers do not give. What is neither that nor a browser, such as an empty agent, is
    unknown.
    """
    if _WEB_ADDRESS_OR_ROBOT.search(agent):
        return BOT
    if _TABLET.search(agent):
        return "tablet"
    if _MOBILE.search(agent):
        return "mobile"
    return "desktop" if _BROWSER.match(agent) else "unknown"


def is_asset(page: str) -> bool:
    """Tell whether a request's path ends like an image, icon, style, script or font."""
    path = re.split(r"[?#]", page, maxsplit=1)[0]
    dot = path.rfind(".")
    return dot >= 0 and _ASSET.fullmatch(path, dot) is not None
