{{/* Names and labels. */}}

{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* The name of objects. Short: the controllers of Kubernetes lengthen it, and a StatefulSet's pods
have a label of its name and 11 more characters. Without dots: a Service has none. */}}
{{- define "penstock.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 40 | trimAll "-" -}}
{{- end }}

{{/* Labels that select pods. They never change: a selector cannot. `part` is "" for the gateway
itself; pods of a part have another name, so that no selector of the gateway finds them. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: "{{ include "penstock.name" .root }}{{ with .part }}-{{ . }}{{ end }}"
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}

{{/* Labels of an object. */}}
{{- define "penstock.labels" -}}
{{- $fixed := fromYaml (include "penstock.selector" .) -}}
{{- $_ := set $fixed "app.kubernetes.io/version" (.root.Chart.AppVersion | toString) -}}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "penstock" -}}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_")) -}}
{{- toYaml (merge $fixed (deepCopy .root.Values.commonLabels)) -}}
{{- end }}

{{/* Labels of a pod: nothing that a new version of the chart alone would change. */}}
{{- define "penstock.podLabels" -}}
{{- $fixed := fromYaml (include "penstock.selector" .) -}}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "penstock" -}}
{{- $own := dict -}}
{{- if has .part (list "" "migration") }}{{ $own = deepCopy .root.Values.podLabels }}{{ end -}}
{{- if eq .part "migration" }}{{ $own = merge (deepCopy .root.Values.migration.podLabels) $own }}{{ end -}}
{{- toYaml (merge $fixed $own (deepCopy .root.Values.commonLabels)) -}}
{{- end }}

{{- define "penstock.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* Names of the objects that a pod refers to. `suffix` is "-migration" for the hook's own copies:
before an install the others do not exist. */}}
{{- define "penstock.configMap" -}}
{{- default (printf "%s%s" (include "penstock.fullname" .root) .suffix) .root.Values.existingConfig -}}
{{- end }}

{{- define "penstock.envSecret" -}}
{{- if .root.Values.secrets.existingSecret -}}
{{- .root.Values.secrets.existingSecret -}}
{{- else if and .root.Values.secrets.create .root.Values.secrets.env -}}
{{- printf "%s%s-env" (include "penstock.fullname" .root) .suffix -}}
{{- end -}}
{{- end }}

{{- define "penstock.filesSecret" -}}
{{- if .root.Values.secrets.existingFiles -}}
{{- .root.Values.secrets.existingFiles -}}
{{- else if and .root.Values.secrets.create .root.Values.secrets.files -}}
{{- printf "%s%s-files" (include "penstock.fullname" .root) .suffix -}}
{{- end -}}
{{- end }}
