from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class SalesConfig(AppConfig):
    name = "sales"
    verbose_name = "Flash sales"


class DeskConfig(admin_apps.AdminConfig):
    """Django's admin, served by our own site. It is not the app that `sales` stands for in INSTALLED_APPS."""

    default = False
    default_site = "sales.desk.site.DeskSite"
