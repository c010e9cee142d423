from __future__ import annotations

import base64
import hashlib
import re

from hyperoracle_server.api.openapi import content_security_policy, security_headers

PAGE = """<html><head>
<link type="text/css" rel="stylesheet" href="https://a.example/x.css">
<link rel="shortcut icon" href="https://b.example/icon.png">
</head><body><script src="https://c.example/deep/x.js"></script>
<script src="own.js"></script>
<script>start()</script></body></html>"""


def test_a_page_may_load_what_it_names_and_nothing_else():
    own = base64.b64encode(hashlib.sha256(b"start()").digest()).decode()
    policy = dict(part.split(" ", 1) for part in content_security_policy(PAGE).split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert set(policy["script-src"].split()) == {
        "'self'", "https://c.example", f"'sha256-{own}'",
    }  # fmt: skip
    assert set(policy["style-src"].split()) == {"https://a.example", "'unsafe-inline'"}
    assert "https://b.example" in policy["img-src"]


def test_the_page_of_the_calls_has_a_policy_under_which_it_works(embedded):
    answer = embedded.call("GET", "/docs")
    page, policy = answer.json, answer.headers["content-security-policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    for source in re.findall(r'(?:src|href)="(https://[^/]+)', page):
        assert source in policy
    assert "onclick" not in page
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_html_gets_all_headers_and_other_answers_are_not_to_be_guessed_at(embedded):
    page = embedded.call("GET", "/docs").headers
    assert page["x-content-type-options"] == "nosniff"
    assert page["referrer-policy"] == "no-referrer"
    assert page["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    plain = embedded.call("GET", "/v1/studies").headers
    assert plain["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in plain


def test_a_page_without_a_policy_of_its_own_gets_the_strict_one():
    html = (b"content-type", b"text/html; charset=utf-8")
    added = dict(security_headers([html]))
    assert b"default-src 'self'" in added[b"content-security-policy"]
    own = (b"content-security-policy", b"default-src 'none'")
    assert b"content-security-policy" not in dict(security_headers([html, own]))
    assert dict(security_headers([])) == {b"x-content-type-options": b"nosniff"}
