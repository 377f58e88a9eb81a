"""The service over real HTTP: every answer and every status that it documents."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.labels import LABEL_NAMES, LABELS, gains
from models.member import Cost
from models.pairs import Pairs, Products, Queries
from service import running
from service.schemas import EXAMPLES, ClassifyAnswer
from tests.service.conftest import write_hashing_release
from tests.service.hashing_member import HashingMember

JSON = {"Content-Type": "application/json"}


def product(number, **texts):
    return {"product_id": f"B{number}", "title": f"Mouse {number}", **texts}


def ask(client, body, status=200):
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def refusal(client, body, status=422):
    """The problem document for `body`, checked for what all of them have."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return problem(client.post("/v1/classify", content=content, headers=JSON), status)


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:esci:problem:")
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def pointers(document):
    return [error["pointer"] for error in document["errors"]]


class TestClassify:
    def test_one_query_with_many_products_is_answered_as_the_ensemble_does(self, client, release):
        products = [product(n, brand="Quellin", colour=f"grey {n}") for n in range(30)]
        body = {"query": "wireless mouse", "locale": "us", "products": products}
        answer = ask(client, body)
        wanted = release.ensemble.predict(
            Pairs.of_query(
                "wireless mouse", "us", Products.of([{**one, "locale": "us"} for one in products])
            )
        )
        got = [[one["probabilities"][label] for label in LABELS] for one in answer["results"]]
        np.testing.assert_array_equal(np.float32(got), wanted)
        assert [one["product_id"] for one in answer["results"]] == [f"B{n}" for n in range(30)]
        for one, row in zip(answer["results"], wanted, strict=True):
            assert one["label"] == LABELS[row.argmax()]
            assert one["label_name"] == LABEL_NAMES[one["label"]]
            assert one["expected_gain"] == pytest.approx(row @ gains("esci-paper"), rel=1e-6)
        assert answer["release_id"] == release.release_id
        assert answer["members_used"] == ["hashing"]
        assert answer["gain_table"] == "esci-paper"

    def test_pairs_of_many_queries_and_locales_are_answered_in_their_order(self, client, release):
        asked = [
            ("mouse", "us"),
            ("ratón", "es"),
            ("mouse", "us"),
            ("マウス", "jp"),
            ("mouse", "es"),
        ]
        body = {
            "pairs": [
                {"query": query, "locale": locale, "product": product(row % 2)}
                for row, (query, locale) in enumerate(asked)
            ]
        }
        rows = np.arange(len(asked), dtype=np.int32)
        wanted = release.ensemble.predict(
            Pairs(
                Queries.of(*zip(*asked, strict=True)),
                Products.of(
                    [{**product(row % 2), "locale": asked[row][1]} for row in rows.tolist()]
                ),
                rows,
                rows,
            )
        )
        got = [
            [one["probabilities"][label] for label in LABELS]
            for one in ask(client, body)["results"]
        ]
        np.testing.assert_array_equal(np.float32(got), wanted)
        assert len(np.unique(np.round(got, 6), axis=0)) == 4  # the first and third are the same

    @given(data=st.data())
    @settings(max_examples=20, deadline=None)
    def test_a_pair_gets_one_answer_alone_in_a_batch_and_from_the_cache(self, client, data):
        text = st.text(max_size=12)
        title = text.map(lambda text: "t" + text)
        one = st.fixed_dictionaries(
            {"product_id": st.sampled_from("abc"), "title": title, "brand": text}
        )
        query = data.draw(st.text(min_size=1, max_size=8).map(lambda text: "q" + text))
        products = data.draw(st.lists(one, min_size=1, max_size=6))
        asked = {"query": query, "locale": "jp"}
        results = [ask(client, {**asked, "products": products})["results"]]
        alone = [ask(client, {**asked, "products": [one]})["results"][0] for one in products]
        pairs = {"pairs": [{**asked, "product": one} for one in products]}
        results += [alone, ask(client, pairs)["results"]]
        assert all(result["cached"] for again in results[1:] for result in again)
        for again in results:
            for result in again:
                result.pop("cached")
        assert results[0] == results[1] == results[2]

    def test_cached_says_whether_a_pair_was_answered_before(self, client):
        known, new = product("known"), product("new")
        asked = {"query": "cached?", "locale": "us"}
        ask(client, {**asked, "products": [known]})
        answer = ask(client, {**asked, "products": [known, new, known]})
        assert [one["cached"] for one in answer["results"]] == [True, False, True]

    def test_a_product_twice_in_a_request_is_answered_twice_and_computed_once(self, client):
        one = product("twice")
        results = ask(client, {"query": "q", "locale": "us", "products": [one] * 5})["results"]
        assert len(results) == 5
        assert len({json.dumps(result) for result in results}) == 1

    def test_concurrent_requests_get_each_its_own_answers(self, client, release):
        def work(number):
            products = [product(f"{number}-{row}") for row in range(7)]
            body = {"query": f"query {number}", "locale": "es", "products": products}
            results = ask(client, body)["results"]
            wanted = release.ensemble.predict(
                Pairs.of_query(
                    f"query {number}", "es", Products.of([{**p, "locale": "es"} for p in products])
                )
            )
            got = [[one["probabilities"][label] for label in LABELS] for one in results]
            np.testing.assert_array_equal(np.float32(got), wanted)

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(work, range(80)))

    def test_the_answer_is_what_its_schema_says_to_the_last_field(self, client):
        answer = ask(client, EXAMPLES["any pairs"]["value"])
        assert ClassifyAnswer.model_validate(answer).model_dump() == answer
        assert set(answer["timings_ms"]) >= {"prepare", "cache_read", "total"}


ONE = {"query": "q", "locale": "us", "products": [{"product_id": "1", "title": "t"}]}


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "pointer", "words"),
        [
            ({"locale": "de"}, "#/locale", r"'us', 'es' or 'jp'"),
            ({"locale": ["us"]}, "#/locale", r"found a list, .*'us', 'es' or 'jp'"),
            ({"query": "  \u200b<b></b> "}, "#/query", "found no text"),
            ({"query": 7}, "#/query", "found a number, expected text; put it in quotes"),
            ({"query": None}, "#/query", "found null, expected text"),
            ({"query": "q" * 5_001}, "#/query", "found 5001 characters, expected at most 5000"),
            ({"products": []}, "#/products", "found an empty list, expected at least 1"),
            ({"products": {}}, "#/products", "found an object, expected a list"),
            ({"products": [True]}, "#/products/0", "found true or false, .*product_id and title"),
            ({"products": [product(n) for n in range(101)]}, "#/products", "at most 100"),
            ({"products": [{"product_id": "1"}]}, "#/products/0/title", "product_id and title"),
            ({"products": [product("x" * 300)]}, "#/products/0/product_id", "found 301 .*256"),
            ({"products": [product(1, bullets=[])]}, "#/products/0/bullets", "line breaks"),
            ({"products": [{**product(1), "product_id": ""}]}, "#/products/0/product_id", "least"),
        ],
    )
    def test_a_body_that_is_not_as_asked_for_is_refused_by_field(
        self, client, change, pointer, words
    ):
        document = refusal(client, {**ONE, **change})
        assert pointer in pointers(document)
        at = pointers(document).index(pointer)
        assert re.search(words, document["errors"][at]["detail"])

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("color", "colour"),
            ("Color", "colour"),
            ("bullet_point", "bullets"),
            ("bullet_points", "bullets"),
            ("id", "product_id"),
            ("product_title", "title"),
            ("titel", "title"),
            ("descripton", "description"),
        ],
    )
    def test_a_field_of_another_name_is_refused_with_ours(self, client, name, meant):
        (error,) = refusal(client, {**ONE, "products": [product(1, **{name: "x"})]})["errors"]
        assert error["pointer"] == f"#/products/0/{name}"
        assert (
            "expected product_id, title, description, bullets, brand or colour" in error["detail"]
        )
        assert error["detail"].endswith(f"; {meant} is probably meant")

    def test_no_name_is_proposed_that_is_not_known_there(self, client):
        # A product has no locale of its own, so `lang` cannot mean it there.
        products = [product(1, lang="us", zzz="")]
        details = [e["detail"] for e in refusal(client, {**ONE, "products": products})["errors"]]
        assert len(details) == 2
        assert not any("meant" in detail for detail in details)

    @pytest.mark.parametrize("beside", [ONE, {"query": "q"}, {"products": []}])
    @pytest.mark.parametrize("pairs", [[], [{"query": "q", "locale": "us", "product": product(1)}]])
    def test_both_forms_at_once_are_one_complaint(self, client, beside, pairs):
        (error,) = refusal(client, {**beside, "pairs": pairs})["errors"]
        assert error["pointer"] == "#/pairs"
        assert "either pairs alone, or query and locale with products" in error["detail"]

    @pytest.mark.parametrize(
        "texts", [{}, {"brand": " ", "bullets": "<br>"}, {"title": "\u200b", "colour": "&nbsp;"}]
    )
    def test_a_product_without_any_text_is_refused(self, client, texts):
        empty = {"product_id": "2", "title": "", **texts}
        asked = {"query": "q", "locale": "us"}
        for body, pointer in (
            ({**asked, "products": [product(1), empty]}, "#/products/1"),
            ({"pairs": [{**asked, "product": empty}]}, "#/pairs/0/product"),
        ):
            (error,) = refusal(client, body)["errors"]
            assert error["pointer"] == pointer
            assert "found no text in any field, expected at least a title" in error["detail"]

    @pytest.mark.parametrize("field", ["description", "bullets", "brand", "colour"])
    def test_a_product_without_a_title_is_answered_by_its_other_texts(self, client, field):
        ask(client, {**ONE, "products": [{"product_id": "1", "title": "", field: "x"}]})

    @pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b"[" * 9_000])
    def test_what_is_no_json_object_is_refused(self, client, body):
        assert pointers(refusal(client, body)) == ["#"]

    def test_a_thousand_wrong_products_have_ten_reasons(self, client):
        document = refusal(client, {**ONE, "products": [{}] * 100})
        assert len(document["errors"]) == 10

    def test_a_refusal_repeats_no_text_of_the_request(self, client):
        body = {**ONE, "query": ["secret"], "locale": "secret"}
        assert "secret" not in json.dumps(refusal(client, body))

    def test_another_media_type_is_refused(self, client):
        answer = client.post("/v1/classify", data={"query": "q"})
        assert "application/json" in problem(answer, 415)["detail"]

    def test_a_large_body_is_refused_before_it_has_arrived(self, client):
        sent = 0

        def body():
            nonlocal sent
            for _ in range(1_000):
                sent += 100_000
                yield b" " * 100_000

        announced = client.post("/v1/classify", content=b" " * 200_001, headers=JSON)
        problem(announced, 413)
        streamed = client.post("/v1/classify", content=body(), headers=JSON)
        assert "200000 bytes" in problem(streamed, 413)["detail"]
        assert sent < 50_000_000
        assert client.get("/livez").status_code == 200

    def test_a_body_that_is_announced_too_large_is_not_waited_for(self, address):
        host, port = address.removeprefix("http://").split(":")
        head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(head + b"Content-Length: 1000000000\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 413"

    def test_the_largest_body_that_is_accepted_is_answered(self, client):
        body = json.dumps(ONE).encode()
        padded = body + b" " * (200_000 - len(body))
        assert client.post("/v1/classify", content=padded, headers=JSON).status_code == 200

    @pytest.mark.parametrize("path", ["/nope", "/v1/classify/", "/v1", "/%00", "/../etc/passwd"])
    def test_a_path_that_leads_nowhere_is_a_problem(self, client, path):
        problem(client.get(path), 404)

    def test_a_method_that_a_path_lacks_is_a_problem(self, client):
        answer = client.get("/v1/classify")
        problem(answer, 405)
        assert answer.headers["allow"] == "POST"

    @pytest.mark.parametrize(
        "text",
        [
            "\x00",
            "\x01\x1f\x7f",
            "\u202e\u200b",
            "\ufffe\uffff",
            "👩‍👩‍👧‍👦",
            "ﷺ" * 50,
            "a\u0301" * 100,
            "</script>",
        ],
    )
    def test_odd_characters_are_answered(self, client, text):
        body = {"query": "q" + text, "locale": "jp", "products": [product(text or "x", brand=text)]}
        assert ask(client, body)["results"][0]["product_id"] == f"B{text}"

    @pytest.mark.parametrize(
        "escape", [r"\ud800", r"\udc00", r"\ud800\ud800", r"\udfff x", r"\uZZZZ"]
    )
    def test_lone_surrogates_are_refused(self, client, escape):
        for body in (
            '{"query":"q%s","locale":"us","products":[{"product_id":"1","title":"t"}]}',
            '{"query":"q","locale":"us","products":[{"product_id":"1","title":"t","%s":"x"}]}',
        ):
            refusal(client, (body % escape).encode())

    @given(body=st.binary(max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_no_body_is_a_fault_of_the_service(self, client, body):
        answer = client.post("/v1/classify", content=body, headers=JSON)
        assert answer.status_code == 422

    @given(
        body=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "query",
                            "locale",
                            "products",
                            "pairs",
                            "product",
                            "product_id",
                            "title",
                            "brand",
                            "x",
                        ]
                    ),
                    inner | st.sampled_from(["us", "jp"]),
                    max_size=5,
                )
            ),
            max_leaves=12,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_no_json_is_a_fault_of_the_service(self, client, body):
        content = json.dumps(body).encode()
        answer = client.post("/v1/classify", content=content, headers=JSON)
        assert answer.status_code in {200, 422}, answer.text
        for error in answer.json().get("errors", []):
            assert re.match("found .*expected ", error["detail"])


class TestFault:
    @pytest.fixture
    def failing(self, monkeypatch):
        def fail(error):
            monkeypatch.setattr(HashingMember, "failure", error)

        return fail

    @pytest.mark.parametrize("kind", ["RuntimeError", "DataError"])
    def test_a_fault_says_no_more_than_where_to_look(self, client, failing, caplog, kind):
        from models.errors import DataError

        error = {"RuntimeError": RuntimeError, "DataError": DataError}[kind]
        failing(error("/secret/path of query"))
        body = {"query": f"fault {kind}", "locale": "us", "products": [product(1)]}
        answer = client.post("/v1/classify", json=body, headers={"X-Request-Id": "look-here"})
        document = problem(answer, 500)
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert "look-here" in document["detail"]
        assert any(
            "secret" in (record.exc_text or str(record.exc_info)) for record in caplog.records
        )
        failing(None)
        assert not ask(client, body)["results"][0]["cached"]  # what failed was not remembered


@contextmanager
def closable_gate():
    """What a test closes to hold the ensemble up; open again whatever happens."""
    try:
        yield HashingMember.gate
    finally:
        HashingMember.gate.set()


def wait_for(client, line):
    deadline = time.monotonic() + 10
    while line not in client.get("/metrics").text:
        assert time.monotonic() < deadline, line
        time.sleep(0.01)


class TestQueue:
    def test_a_full_queue_refuses_at_once_and_what_was_accepted_is_answered(self, settings):
        def body(name, n_products):
            products = [product(f"{name}{n}") for n in range(n_products)]
            return {"query": name, "locale": "us", "products": products}

        limits = settings(max_concurrent=1, max_queued_pairs=10)
        with (
            running(limits) as address,
            httpx.Client(base_url=address, timeout=30) as client,
            ThreadPoolExecutor(2) as threads,
            closable_gate() as gate,
        ):
            gate.clear()
            accepted = [
                threads.submit(httpx.post, f"{address}/v1/classify", json=body(name, 5), timeout=30)
                for name in ("first", "second")
            ]
            wait_for(client, "esci_queued_pairs 10")
            started = time.monotonic()
            refused = client.post("/v1/classify", json=body("third", 1))
            assert time.monotonic() - started < 1
            assert "10 pairs" in problem(refused, 429)["detail"]
            assert 1 <= int(refused.headers["retry-after"]) <= 30
            assert client.get("/livez").status_code == 200
            gate.set()
            assert [done.result().status_code for done in accepted] == [200, 200]
            # An empty queue takes whatever one request may hold.
            assert len(ask(client, body("fourth", 50))["results"]) == 50

    def test_known_pairs_are_answered_while_the_queue_is_full(self, settings):
        known = {"query": "known", "locale": "us", "products": [product(1)]}
        limits = settings(max_concurrent=1, max_queued_pairs=1)
        with (
            running(limits) as address,
            httpx.Client(base_url=address, timeout=30) as client,
            ThreadPoolExecutor(1) as threads,
            closable_gate() as gate,
        ):
            ask(client, known)
            gate.clear()
            new = {**known, "query": "new"}
            threads.submit(httpx.post, f"{address}/v1/classify", json=new, timeout=30)
            wait_for(client, "esci_queued_pairs 1")
            assert ask(client, known)["results"][0]["cached"]
            ask(client, {**known, "query": "newer"}, status=429)


class TestPages:
    def test_every_example_works_as_written(self, client):
        document = client.get("/openapi.json").json()
        tried = 0
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    for example in content["examples"].values():
                        answer = client.request(method, path, json=example["value"])
                        assert answer.status_code == 200, answer.text
                        tried += 1
        assert tried == len(EXAMPLES)

    def test_the_api_page_documents_what_is_answered_and_every_reference_resolves(self, client):
        document = client.get("/openapi.json").json()
        schemas = document["components"]["schemas"]
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
            assert name in schemas
        assert set(document["paths"]["/v1/classify"]["post"]["responses"]) == {
            *("200", "413", "415", "422", "429", "500")  # each is provoked above
        }
        assert schemas["QueryRequest"]["properties"]["products"]["maxItems"] == 100
        for path in set(document["paths"]) - {"/v1/classify"}:
            assert set(document["paths"][path]["get"]["responses"]) == {"200"}
            assert client.get(path).status_code == 200

    def test_pages_load_nothing_from_elsewhere(self, client):
        for path in ("/", "/docs"):
            page = client.get(path)
            assert page.headers["content-type"].startswith("text/html")
            assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)

    def test_the_index_shows_a_curl_that_names_this_service(self, client, address):
        page = client.get("/").text
        assert f"curl {address}/v1/classify" in page
        hostile = client.get("/", headers={"Host": "<script>alert(1)</script>"})
        assert "<script>" not in hostile.text

    def test_info_tells_what_is_served(self, client, release):
        info = client.get("/info").json()
        assert info["release_id"] == release.release_id
        assert info["members"] == [
            {
                "name": "hashing",
                "kind": "hashing",
                "milliseconds_per_pair": 0.25,
                "megabytes": 1.5,
            }
        ]
        assert info["metrics"] == {"macro_f1": 0.25}
        assert info["gains"] == {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
        assert info["limits"]["max_pairs"] == 100
        assert info["product_vectors"] == []  # it compares none
        assert client.get("/v1/models").json()["members"] == info["members"]

    def test_a_cost_that_was_not_measured_is_null(self, settings, tmp_path, monkeypatch):
        monkeypatch.setattr(HashingMember, "cost", lambda _: Cost())
        served = settings(release=write_hashing_release(tmp_path))
        with running(served) as address, httpx.Client(base_url=address) as client:
            for path in ("/info", "/v1/models"):
                (member,) = client.get(path).json()["members"]
                assert (member["milliseconds_per_pair"], member["megabytes"]) == (None, None)

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/docs", "/openapi.json"])
    def test_head_tells_what_get_would_without_the_body(self, client, path):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length"):
            assert head.headers[name] == get.headers[name]
        assert set(client.delete(path).headers["allow"].split(", ")) == {"GET", "HEAD"}

    def test_ready_names_the_release_and_the_cache(self, client, release):
        assert client.get("/livez").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {
            "status": "ready",
            "release_id": release.release_id,
            "label_cache": {"store": "memory", "healthy": True, "troubles": 0},
        }


class TestObserved:
    def test_a_request_id_is_echoed_if_it_is_one_and_made_otherwise(self, client):
        given_id = client.get("/livez", headers={"X-Request-Id": "abc-1.2_3"})
        assert given_id.headers["x-request-id"] == "abc-1.2_3"
        for wrong in ("", "a b", "x" * 65, '"}{"'):
            made = client.get("/livez", headers={"X-Request-Id": wrong})
            assert re.fullmatch("[0-9a-f]{16}", made.headers["x-request-id"])

    def test_a_request_leaves_one_line_without_its_texts(self, client, release, caplog):
        caplog.set_level("INFO", "service")
        products = [product("log-1", brand="secret"), product("log-2")]
        body = {"query": "secret query", "locale": "us", "products": products[:1]}
        ask(client, body)
        client.post(
            "/v1/classify", json={**body, "products": products}, headers={"X-Request-Id": "me"}
        )
        client.get("/livez")  # answered after the line before it was written
        every = [record.fields for record in caplog.records if record.name == "service.request"]
        (fields,) = [fields for fields in every if fields["request_id"] == "me"]
        assert fields["release_id"] == release.release_id
        assert (fields["pairs"], fields["cache_hits"], fields["status"]) == (2, 1, 200)
        assert fields["phases_ms"]["predict"] > 0
        assert fields["total_ms"] >= fields["phases_ms"]["total"] > 0
        assert "secret" not in caplog.text + json.dumps(every)

    def test_metrics_count_what_happened(self, settings):
        with running(settings()) as address, httpx.Client(base_url=address) as client:
            for _ in range(3):
                products = [product(1), product(2)]
                ask(client, {"query": "q", "locale": "us", "products": products})
            client.post("/v1/classify", json={})
            client.request("PURGE", "/some/path")
            client.get("/other/path")
            pages = ("/", "/docs", "/openapi.json", "/livez", "/readyz")
            for page in pages:
                client.get(page)
            client.head("/livez")
            lines = client.get("/metrics").text.splitlines()
        counted = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

        def requests(route, method, status):
            name = f'{{route="{route}",method="{method}",status="{status}"}}'
            return counted[f"esci_requests_total{name}"]

        assert requests("/v1/classify", "POST", 200) == "3"
        assert requests("/v1/classify", "POST", 422) == "1"
        assert requests("other", "other", 404) == "1"
        assert requests("other", "GET", 404) == "1"
        assert [requests(page, "GET", 200) for page in pages] == ["1"] * len(pages)
        assert requests("/livez", "HEAD", 200) == "1"
        assert counted['esci_pairs_total{source="cache"}'] == "4"
        assert counted['esci_pairs_total{source="ensemble"}'] == "2"
        assert counted['esci_phase_seconds_count{phase="predict"}'] == "1"
        assert counted['esci_phase_seconds_bucket{phase="cache_read",le="+Inf"}'] == "3"
        assert counted["esci_label_cache_healthy"] == "1"
        names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
        assert len(names) == sum(line.startswith("# TYPE") for line in lines)
