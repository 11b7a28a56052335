-- Run once by the container of PostgreSQL, on an empty volume.
CREATE DATABASE dagster;
CREATE DATABASE lake;
