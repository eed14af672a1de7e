# Losses of power at random points of a recorded run, and that the test notices syncs that are missing; figures by `power_cut.py`.

cut_power() {
  cargo build --locked --quiet --bin isocenter
  command -v strace >/dev/null || apt_install strace
  ISOCENTER_TEST_BINARY="$target/debug/isocenter" "${python:-python3}" tests/long/power_cut.py "$@"
}

long_missing_syncs_are_noticed_when_the_power_is_cut() { cut_power --self-test --instances 100; }
long_250_losses_of_power_lose_nothing_in_sqlite_and_a_folder() { cut_power --stack sqlite --cuts 250; }
long_250_losses_of_power_lose_nothing_in_postgresql_and_a_folder() { cut_power --stack postgres --cuts 250; }
