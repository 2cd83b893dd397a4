set -eu
export DEBIAN_FRONTEND=noninteractive AWS_DEFAULT_REGION="$REGION"

# The public address comes shortly after the start, the data volume too.
until apt-get update -q; do sleep 5; done
device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(printf %s "$VOLUME" | tr -d -)
until test -e "$device"; do sleep 2; done
blkid "$device" || mkfs.ext4 -q -L clickstream "$device"

mkdir -p /var/lib/clickstream /etc/systemd/system/clickstream.service.d
echo 'LABEL=clickstream /var/lib/clickstream ext4 defaults,nofail 0 2' >>/etc/fstab
mount /var/lib/clickstream
engine=docker # as Ubuntu packages it, with io behind a dot
apt-get -o DPkg::Lock::Timeout=600 install -yq "$engine.io" $engine-buildx $engine-compose-v2 python3-boto3

printf '%s' "$FETCH" | base64 -d >/usr/local/sbin/clickstream-fetch
chmod 755 /usr/local/sbin/clickstream-fetch
until /usr/local/sbin/clickstream-fetch; do sleep 10; done
cat >/etc/systemd/system/clickstream.service.d/deployment.conf <<END
[Service]
ExecStartPre=/usr/local/sbin/clickstream-fetch
END
cp /opt/clickstream/docker/host/clickstream.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now --no-block clickstream.service
