{{/* The configuration that the pods get, as JSON. */}}
{{- define "penstock.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $server := deepCopy ($config.server | default dict) -}}
{{- $store := deepCopy ($config.store | default dict) -}}
{{- if not (hasKey $server "host") }}{{ $_ := set $server "host" "0.0.0.0" }}{{ end -}}
{{- if .Values.postgresql.bundled }}{{ $_ := set $store "sql" "env:PENSTOCK_SQL" }}{{ end -}}
{{- if .Values.redis.bundled }}{{ $_ := set $store "counters" "env:PENSTOCK_COUNTERS" }}{{ end -}}
{{- if .Values.tracing.endpoint -}}
{{- $tracing := deepCopy ($config.tracing | default dict) -}}
{{- /* Not by merge, which takes 0 for missing. */ -}}
{{- range $key, $value := .Values.tracing -}}
{{- if not (hasKey $tracing $key) }}{{ $_ := set $tracing $key $value }}{{ end -}}
{{- end -}}
{{- $_ := set $config "tracing" $tracing -}}
{{- end -}}
{{- $_ := set $config "server" $server -}}
{{- $_ := set $config "store" $store -}}
{{- toJson $config -}}
{{- end }}

{{/* A location of `store`; for `env:NAME` what `secrets.env` or `extraEnv` have, if they do. */}}
{{- define "penstock.location" -}}
{{- $root := .root -}}
{{- $found := .value -}}
{{- if hasPrefix "env:" .value -}}
{{- $name := trimPrefix "env:" .value -}}
{{- if hasKey $root.Values.secrets.env $name }}{{ $found = get $root.Values.secrets.env $name }}{{ end -}}
{{- range $root.Values.extraEnv -}}
{{- if and (eq .name $name) (hasKey . "value") }}{{ $found = .value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end }}

{{/* Milliseconds of a duration as Penstock reads it: "1h30m", "250ms", "10min", "1d", or seconds. */}}
{{- define "penstock.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "min" 60000 "h" 3600000 "d" 86400000 -}}
{{- $total := 0.0 -}}
{{- if kindIs "string" . -}}
{{- range regexFindAll "[0-9]+([.][0-9]+)?(ms|s|min|m|h|d)" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $total = addf $total (mulf (trimSuffix $unit . | float64) (get $units $unit)) -}}
{{- end -}}
{{- else -}}
{{- $total = mulf (float64 .) 1000 -}}
{{- end -}}
{{- printf "%.3f" $total -}}
{{- end }}

{{/* What follows from the values, as JSON: numbers of pods, stores, grace period, migration. */}}
{{- define "penstock.facts" -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- $server := $config.server -}}
{{- $store := $config.store -}}
{{- $sql := include "penstock.location" (dict "root" . "value" ($store.sql | default "sqlite:")) -}}
{{- $counters := include "penstock.location" (dict "root" . "value" ($store.counters | default "memory")) -}}
{{- $sqlite := hasPrefix "sqlite:" $sql -}}
{{- $memory := eq $counters "memory" -}}
{{- $alone := or $sqlite $memory -}}
{{- $replicas := ternary 1 2 $alone -}}
{{- if not (kindIs "invalid" .Values.replicas) }}{{ $replicas = int .Values.replicas }}{{ end -}}
{{- $scaled := or .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- $least := $replicas -}}
{{- $most := $replicas -}}
{{- if .Values.keda.enabled -}}
{{- $least = int .Values.keda.min }}{{ $most = int .Values.keda.max -}}
{{- else if .Values.autoscaling.enabled -}}
{{- $least = int .Values.autoscaling.min }}{{ $most = int .Values.autoscaling.max -}}
{{- end -}}
{{- $drain := include "penstock.milliseconds" (dig "drain" "10m" $server) | float64 -}}
{{- $delay := include "penstock.milliseconds" (dig "drain_delay" "1s" $server) | float64 -}}
{{- $needed := addf (divf (addf $drain $delay) 1000) .Values.drain.extra | ceil | int64 -}}
{{- $grace := $needed -}}
{{- if not (kindIs "invalid" .Values.terminationGracePeriodSeconds) }}{{ $grace = int64 .Values.terminationGracePeriodSeconds }}{{ end -}}
{{- $stateful := eq .Values.workload.kind "StatefulSet" -}}
{{- $migration := .Values.migration.mode -}}
{{- if $sqlite -}}
{{- $migration = "none" -}}
{{- else if and (eq $migration "job") (or .Values.postgresql.bundled .Values.redis.bundled) -}}
{{- $migration = "init" -}}
{{- end -}}
{{- toJson (dict
  "port" (dig "port" 8080 $server | int)
  "workers" (dig "workers" 1 $server | int)
  "sqlite" $sqlite
  "memory" $memory
  "replicas" $replicas
  "scaled" $scaled
  "least" $least
  "most" $most
  "needed" $needed
  "grace" $grace
  "stateful" $stateful
  "claim" (and .Values.persistence.enabled (or $sqlite $stateful))
  "migration" $migration) -}}
{{- end }}

{{/* A hash of what takes effect at a restart only: those settings, and the environment. */}}
{{- define "penstock.restart" -}}
{{- $config := include "penstock.config" . | fromJson -}}
{{- $found := dict -}}
{{- range $path, $default := .Files.Get "files/restart-paths.json" | fromJson -}}
{{- $parts := splitList "." $path -}}
{{- $table := get $config (first $parts) | default dict -}}
{{- $key := last $parts -}}
{{- $_ := set $found $path (ternary (get $table $key) $default (hasKey $table $key)) -}}
{{- end -}}
{{- $_ := set $found "existingConfig" .Values.existingConfig -}}
{{- $_ := set $found "secrets" (dict "env" .Values.secrets.env "existing" .Values.secrets.existingSecret) -}}
{{- $_ := set $found "bundled" (dict "redis" .Values.redis.password "postgresql" .Values.postgresql.password) -}}
{{- toJson $found | sha256sum -}}
{{- end }}
