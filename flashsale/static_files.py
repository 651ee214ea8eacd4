"""How static files are named and packed for browsers."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedModules(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage; imports among our JavaScript modules name the hashed files, too."""

    support_js_module_import_aggregation = True
