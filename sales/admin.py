"""Django's admin finds here what is registered: each kind of thing has a module in `desk`."""

from django.contrib import admin

from sales.desk import order, people, sale

__all__ = ["order", "people", "sale"]

admin.site.site_header = admin.site.site_title = "Flash sales"
admin.site.index_title = "The operator's desk"
