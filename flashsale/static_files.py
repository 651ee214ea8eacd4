"""Which static files are gathered, and how they are named and packed for browsers."""

from django.contrib.staticfiles.apps import StaticFilesConfig
from whitenoise.storage import CompressedManifestStaticFilesStorage


class AskedFor(StaticFilesConfig):
    """Django's own app, without the files that its admin asks for in DEBUG alone, where nothing is gathered.

    They are the longest: to pack them takes as long as all the others.
    """

    ignore_patterns = [
        *StaticFilesConfig.ignore_patterns,
        "admin/js/vendor/jquery/jquery.js",
        "admin/js/vendor/select2/select2.full.js",
        "admin/js/vendor/xregexp/xregexp.js",
    ]


class HashedModules(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage; imports among our JavaScript modules name the hashed files, too."""

    support_js_module_import_aggregation = True
