"""Who may do what in the admin: three roles, shipped as groups by migrations."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.management import create_permissions

ROLES = ("viewer", "operator", "administrator")


def grant(apps: Any, role: str, permissions: Iterable[str] | None = None) -> None:
    """Give a role permissions, named like `view_sale`; all that there are without a list. Safe to repeat.

    A migration calls it with its own `apps`, because Django makes permissions only after the last migration.
    """
    for config in apps.get_app_configs():
        if not hasattr(config, "models_module"):  # a migration's stand-in for an app does not say that it has models
            config.models_module = True
        create_permissions(config, verbosity=0, apps=apps)
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
    wanted = apps.get_model("auth", "Permission").objects.all()
    group.permissions.add(*(wanted if permissions is None else wanted.filter(codename__in=permissions)))
