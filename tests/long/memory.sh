# Peak memory of the release build while it moves gigabytes and serves many clients; figures by `memory.py`.

# Runs a case of `memory.py` on the release build.
peak_memory() {
  cargo build --locked --quiet --release --bin isocenter
  PSQL=$(find_postgres)/psql ISOCENTER_TEST_BINARY="$target/release/isocenter" "${python:-python3}" tests/long/memory.py "$1"
}

long_four_gigabytes_of_native_pixel_data_take_little_memory() { peak_memory native; }
long_five_gibibytes_of_encapsulated_pixel_data_take_little_memory() { peak_memory encapsulated; }
long_a_gibibyte_in_postgresql_and_s3_takes_little_memory() { peak_memory shared; }
long_idle_clients_and_many_uploads_take_little_memory() { peak_memory clients; }
long_idle_clients_and_many_uploads_to_postgresql_and_s3_take_little_memory() { peak_memory clients-shared; }
