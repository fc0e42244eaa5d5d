"""Checks docs/openapi.json, and that answers are what it says of them.

Arguments: the document. On stdin: a JSON list of [path, method, status, answer]. Ends with 3 where a package is missing.
"""

import json
import sys

try:
    from jsonschema import Draft202012Validator
    from openapi_spec_validator import validate
except ImportError as error:
    print(error)
    sys.exit(3)


def closed(value):
    """The schema without room for fields that it doesn't name: a client takes them, but this server has none."""
    if isinstance(value, list):
        return [closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    inner = {name: closed(one) for name, one in value.items()}
    properties = inner.get("properties")
    if inner.get("type") == "object" and isinstance(properties, dict):
        inner.setdefault("unevaluatedProperties", False)
    # Members of a choice have only a part of the fields.
    for member in inner.get("oneOf", []) + inner.get("anyOf", []):
        if "properties" in inner:
            member.pop("unevaluatedProperties", None)
    return inner


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    validate(document)
    components = {**document["components"], "schemas": closed(document["components"]["schemas"])}
    problems = []
    for path, method, status, answer in json.load(sys.stdin):
        response = document["paths"][path][method]["responses"].get(str(status))
        if response is None:
            problems.append(f"{method} {path}: {status} isn't described")
            continue
        if "$ref" in response:
            response = components["responses"][response["$ref"].rsplit("/", 1)[1]]
        schema = response["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": components})
        for error in validator.iter_errors(answer):
            problems.append(f"{method} {path} {status} {error.json_path}: {error.message[:300]}")
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


main()
