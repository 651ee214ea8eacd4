from django.db import migrations

from sales import roles

VIEWER = ("view_sale", "view_order", "view_quarantine")
OPERATOR = (*VIEWER, "add_sale", "change_sale")


def ship_roles(apps, schema_editor):
    roles.grant(apps, "viewer", VIEWER)
    roles.grant(apps, "operator", OPERATOR)
    roles.grant(apps, "administrator")


class Migration(migrations.Migration):

    dependencies = [
        ("sales", "0003_sale_mirror_due"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("sessions", "0001_initial"),
    ]

    operations = [migrations.RunPython(ship_roles, migrations.RunPython.noop)]
