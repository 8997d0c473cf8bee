"""What a visitor may order."""

from django import forms


class JobForm(forms.Form):
    """The form fields `name` and `seconds`."""

    name = forms.CharField(max_length=80)
    seconds = forms.FloatField(min_value=0, max_value=600)
