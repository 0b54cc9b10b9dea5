create table orders (
    id bigint primary key,
    customer text not null,
    placed_at timestamptz not null,
    quantity integer not null check (quantity > 0),
    price_cents bigint not null
);
