from django.db import migrations, transaction

from sales import order_codes

PAGE = 5_000


def fill(apps, schema_editor):
    """Give each order its code. A page is committed at a time: orders are written meanwhile, and what was interrupted
    goes on where it was."""
    orders = apps.get_model("sales", "Order").objects.order_by("id").values_list("id", "sale_id", "order_id", "order_code")
    last = 0
    while page := list(orders.filter(id__gt=last)[:PAGE]):
        made = [(order_codes.make(sale_id, order_id), pk) for pk, sale_id, order_id, code in page if not code]
        with transaction.atomic(schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
            cursor.executemany("UPDATE sales_order SET order_code = %s WHERE id = %s", made)
        last = page[-1][0]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("sales", "0011_order_code"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
