{{- define "chatd.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chatd.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chatd.labels" -}}
{{ include "chatd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "chatd.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "chatd.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "chatd.secret" -}}
{{- required "existingSecret: name a Secret with the keys postgres-url, rabbitmq-password, redis-password, cluster-key and jwt-key" .Values.existingSecret -}}
{{- end -}}

{{/* What differs from the file, as --set. */}}
{{- define "chatd.settings" -}}
server.server_id: $(POD_NAME)
server.data_dir: /var/lib/chatd
server.log_format: json
server.drain_grace: {{ .Values.drain.graceSeconds }}s
server.drain_spread: {{ .Values.drain.spreadSeconds }}s
server.drain_timeout: {{ .Values.drain.timeoutSeconds }}s
http.listen: '["0.0.0.0:8080"]'
http.trusted_proxies: {{ toJson .Values.trustedProxies | squote }}
route-rabbitmq.addresses: {{ toJson .Values.rabbitmq.addresses | squote }}
route-rabbitmq.user: {{ .Values.rabbitmq.user | quote }}
route-rabbitmq.vhost: {{ .Values.rabbitmq.vhost | quote }}
route-rabbitmq.tls: {{ .Values.rabbitmq.tls | quote }}
redis.addresses: {{ toJson .Values.redis.addresses | squote }}
redis.user: {{ .Values.redis.user | quote }}
redis.tls: {{ .Values.redis.tls | quote }}
metrics.enabled: {{ .Values.metrics.enabled | quote }}
metrics.listen: '["0.0.0.0:9464"]'
{{- end -}}
