from django.db import migrations

from sales import roles


def grant_what_is_new(apps, schema_editor):
    roles.grant(apps, "administrator")


class Migration(migrations.Migration):

    dependencies = [
        ("sales", "0006_attempts"),
        ("otp_static", "0003_add_timestamps"),
        ("otp_totp", "0003_add_timestamps"),
    ]

    operations = [migrations.RunPython(grant_what_is_new, migrations.RunPython.noop)]
