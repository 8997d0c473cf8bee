"""`just bench`: what a deploy costs beside a bare script, pyinfra and Ansible that do the same steps on the same host.

The app is put live on one throw-away host four times: by this tool, and in place, in a folder with a gunicorn of its
own, for each of the others. So all of them share the host's packages, its database and whatever else it does, and stand
side by side within the same minute; hosts of their own would differ in their caches. No timing decides a test.
"""
