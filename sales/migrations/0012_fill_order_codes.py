from django.db import migrations

from sales import order_codes

# Two parameters each: SQLite takes 32,766 in a statement.
PAGE = 5_000


def fill(apps, schema_editor):
    """Give each order its code. A page is committed at a time: orders are written meanwhile, and what was interrupted
    goes on where it was."""
    orders = apps.get_model("sales", "Order").objects.order_by("id")
    page = orders.filter(order_code="").values_list("id", "sale_id", "order_id")
    last = 0
    while found := list(page.filter(id__gt=last)[:PAGE]):
        values = [value for pk, *order in found for value in (pk, order_codes.make(*order))]
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(
                # Both databases name the columns of VALUES so.
                "UPDATE sales_order SET order_code = made.column2 "
                f"FROM (VALUES {', '.join(['(%s, %s)'] * len(found))}) AS made WHERE sales_order.id = made.column1",
                values,
            )
        last = found[-1][0]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("sales", "0011_order_code"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
