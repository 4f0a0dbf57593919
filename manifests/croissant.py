"""`croissant.json`: the set in the vocabulary of Croissant, which search engines and hubs read.

Source: Croissant format specification, version 1.0, of MLCommons.
"""

import json
from typing import Any

from manifests.columns import Column
from manifests.recipe import Identity
from manifests.schema import manifest_columns
from manifests.seal import Seal

_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}

_DESCRIPTION = (
    "Synthetic images in groups: the images of a group depict one subject and are positives of one "
    "another for the training of visual encoders."
)

_CR = {
    name: f"cr:{name}"
    for name in (
        "column",
        "equivalentProperty",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    )
}

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **_CR,
}


def croissant(identity: Identity, seal: Seal, *, name: str) -> bytes:
    """The document: the tars, the manifests, and every column of the manifests as a field."""
    columns = manifest_columns(identity.columns)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": _DESCRIPTION,
        "identifier": seal.root_sha256,
        "version": "1.0.0",  # the only one: a sealed set does not change
        "distribution": [
            _files("manifests", "application/x-parquet", "manifests/*.parquet"),
            _files("tars", "application/x-tar", "data/*.tar"),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "views",
                "name": "views",
                "description": "One row for each requested view, failed ones included.",
                "key": {"@id": "views/key"},
                "field": [_field(column) for column in columns],
            }
        ],
    }
    return f"{json.dumps(document, indent=2, ensure_ascii=False)}\n".encode()


def _files(name: str, encoding: str, includes: str) -> dict[str, str]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": encoding,
        "includes": includes,
    }


def _field(column: Column) -> dict[str, Any]:
    unit = f" ({column.unit})" if column.unit else ""
    return {
        "@type": "cr:Field",
        "@id": f"views/{column.name}",
        "name": f"views/{column.name}",
        "description": f"{column.meaning}{unit}",
        "dataType": _TYPES[column.type],
        "source": {"fileSet": {"@id": "manifests"}, "extract": {"column": column.name}},
    }
