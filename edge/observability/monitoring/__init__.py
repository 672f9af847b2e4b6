"""Alert rules for Prometheus and a dashboard for Grafana, from the table of metrics."""
