-- A database per service: nothing is shared, so nothing can be joined by accident.
CREATE DATABASE "user";
CREATE DATABASE inventory;
CREATE DATABASE payment;
CREATE DATABASE "order";
