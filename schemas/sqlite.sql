-- The tables of the demo. No key keeps a line from being written twice: the offset table does.
create table transactions (
  order_id integer not null,
  line integer not null,
  placed_at timestamptz not null,
  customer text not null,
  item_id integer not null,
  quantity integer not null constraint transactions_quantity_check check (quantity > 0),
  price_cents integer not null
);
create table inventory (
  item_id integer primary key,
  sold integer not null,
  revenue_cents integer not null
);
