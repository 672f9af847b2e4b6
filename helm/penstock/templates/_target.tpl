{{/* What an autoscaler scales. */}}
{{- define "penstock.target" -}}
apiVersion: apps/v1
kind: {{ .Values.workload.kind }}
name: {{ include "penstock.fullname" . | quote }}
{{- end }}

{{/* Metadata of an object of the gateway. annotations: may be empty. labels: further ones. */}}
{{- define "penstock.metadata" -}}
name: "{{ include "penstock.fullname" .root }}{{ .suffix }}"
labels:
  {{- toYaml (merge (include "penstock.labels" (dict "root" .root "part" (.part | default "")) | fromYaml) (.labels | default dict)) | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
